#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod gold;
mod math;
mod verdict;

pub use error::Error;
pub use gold::{Answer, Gold, GoldColumn};
pub use math::{Quantity, Unreadable};
pub use verdict::{Outcome, Sample, Verdict, Verifier};
