#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod fitness;
mod moves;

pub use fitness::Fitness;
