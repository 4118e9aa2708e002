//! What every benchmark shares: its options and its report. Each binary of this package is one benchmark; run it with
//! `cargo xtask bench NAME`.

#![forbid(unsafe_code)]

mod options;
mod report;

pub use options::Options;
pub use report::{Report, median};

/// The guides' examples, compiled as documentation tests here because this package is not published: a published crate could
/// not include files from outside its folder.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/write_a_reward.md")]
#[doc = include_str!("../../docs/guides/write_a_policy.md")]
mod guides {}
