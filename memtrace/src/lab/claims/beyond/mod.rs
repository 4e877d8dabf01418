//! What the notes do not claim, and a course would want next: X1 and on.

use crate::lab::claim::Claim;

mod batch;
mod x01;
mod x02;
mod x03;
mod x04;
mod x05;
mod x06;
mod x07;
mod x08;
mod x09;
mod x10;
mod x11;
mod x12;
mod x13;
mod x14;
mod x15;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[
    x01::CLAIM,
    x02::CLAIM,
    x03::CLAIM,
    x04::CLAIM,
    x05::CLAIM,
    x06::CLAIM,
    x07::CLAIM,
    x08::CLAIM,
    x09::CLAIM,
    x10::CLAIM,
    x11::CLAIM,
    x12::CLAIM,
    x13::CLAIM,
    x14::CLAIM,
    x15::CLAIM,
];
