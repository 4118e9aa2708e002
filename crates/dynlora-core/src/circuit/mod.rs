//! Circuits: channels that act together, and whether what they do repeats (R36-R40).

mod pattern;

pub use pattern::{Circuit, CircuitNode, CircuitScores, PatternId};
