//! Processes and threads: T1 to T9.

use crate::lab::claim::Claim;

mod stores;
mod t01;
mod t02;
mod t03;
mod t04;
mod t05;
mod t06;
mod t07;
mod t08;
mod t09;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[
    t01::CLAIM,
    t02::CLAIM,
    t03::CLAIM,
    t04::CLAIM,
    t05::CLAIM,
    t06::CLAIM,
    t07::CLAIM,
    t08::CLAIM,
    t09::CLAIM,
];
