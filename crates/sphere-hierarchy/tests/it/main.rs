//! Tests through the public interface.

mod failures;
mod same_bits;
mod support;
