#![doc = include_str!("../README.md")]

mod error;
mod tree;

pub mod collective;

pub use error::{Error, Result};
pub use tree::{ARITY, count_at_depth, height, leaves_at_depth, optimal_depth, share};
