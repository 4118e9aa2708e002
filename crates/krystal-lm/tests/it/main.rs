//! Integration tests of krystal-lm.

mod golden;
mod shared;
