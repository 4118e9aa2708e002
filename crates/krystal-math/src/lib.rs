#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod eigen;
pub mod low_rank;
pub mod positive_definite;
pub mod rng;
pub mod sampling;
pub mod sketch;
pub mod statistics;

mod permutation;

pub use permutation::permutation;
