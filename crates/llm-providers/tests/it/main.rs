//! Everything but the parts that their own files test.

mod client;
mod conformance;
mod cuts;
mod differences;
#[cfg(feature = "ollama")]
mod ollama;
mod recordings;
