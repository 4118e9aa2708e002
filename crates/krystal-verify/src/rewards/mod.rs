//! Rewards that need nothing but the sample.

pub(crate) mod calculator;
pub(crate) mod exact;
pub(crate) mod math;
pub(crate) mod numeric;
pub(crate) mod pattern;
pub(crate) mod repetition;
pub(crate) mod soft_overlong;
pub(crate) mod think_format;
