//! The layout of a process's memory: L1 to L14.

use crate::lab::claim::Claim;

mod extent;
mod l01;
mod l02;
mod l03;
mod l04;
mod l05;
mod l06;
mod l07;
mod l08;
mod l09;
mod l10;
mod l11;
mod l12;
mod l13;
mod l14;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[
    l01::CLAIM,
    l02::CLAIM,
    l03::CLAIM,
    l04::CLAIM,
    l05::CLAIM,
    l06::CLAIM,
    l07::CLAIM,
    l08::CLAIM,
    l09::CLAIM,
    l10::CLAIM,
    l11::CLAIM,
    l12::CLAIM,
    l13::CLAIM,
    l14::CLAIM,
];
