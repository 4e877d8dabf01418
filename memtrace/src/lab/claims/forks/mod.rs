//! fork, vfork, clone, exec: F1 to F18.

use crate::lab::claim::Claim;

mod code;
mod f01;
mod f02;
mod f03;
mod f04;
mod f05;
mod f06;
mod f07;
mod f08;
mod f09;
mod f10;
mod f11;
mod f12;
mod f13;
mod f14;
mod f15;
mod f16;
mod f17;
mod f18;
mod twice;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[
    f01::CLAIM,
    f02::CLAIM,
    f03::CLAIM,
    f04::CLAIM,
    f05::CLAIM,
    f06::CLAIM,
    f07::CLAIM,
    f08::CLAIM,
    f09::CLAIM,
    f10::CLAIM,
    f11::CLAIM,
    f12::CLAIM,
    f13::CLAIM,
    f14::CLAIM,
    f15::CLAIM,
    f16::CLAIM,
    f17::CLAIM,
    f18::CLAIM,
];
