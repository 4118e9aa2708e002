#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod data;
pub mod policy;
pub mod reward;
