//! Integration tests of krystal-lm.

mod generation;
mod golden;
mod sampling;
mod shared;
