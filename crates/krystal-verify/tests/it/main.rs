//! Tests of the public interface, one binary.

mod gsm8k;
mod shared;
