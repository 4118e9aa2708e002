#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod atomic;
mod error;
mod frame;
mod payload;
mod state;

pub use atomic::{write_atomically, write_atomically_with};
pub use error::Error;
pub use frame::Header;
pub use state::{from_bytes, load, read_header, save, to_bytes};
