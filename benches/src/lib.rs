//! What every benchmark shares: its options and its report. Each binary of this package is one benchmark; run it with
//! `cargo xtask bench NAME`.

#![forbid(unsafe_code)]

mod options;
mod report;

pub use options::Options;
pub use report::{Report, median};
