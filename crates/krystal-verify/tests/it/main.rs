//! Tests of the public interface, one binary.

#[cfg(unix)]
mod command;
mod gsm8k;
mod math_verify;
mod notation;
mod rewards;
mod shared;
