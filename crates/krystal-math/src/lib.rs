#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod permutation;
pub mod rng;
pub mod sampling;
pub mod statistics;
