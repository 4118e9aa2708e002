#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod data;
#[cfg(feature = "lm")]
pub mod lm;
pub mod policy;
pub mod reward;
#[cfg(feature = "verify")]
pub mod verify;
