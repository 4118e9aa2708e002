#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod element;
mod error;
mod fold;
mod reduce;
mod tree;

pub mod collective;

pub use element::Element;
pub use error::{Error, Result};
pub use reduce::exact::{self, ExactSum, SumError};
pub use reduce::{Accumulation, reduce, reduce_on_threads};
pub use tree::{ARITY, count_at_depth, height, leaves_at_depth, optimal_depth, share};
