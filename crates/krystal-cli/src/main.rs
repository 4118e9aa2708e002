//! The `krystal` binary.

fn main() {}
