//! Streams of lines, cut anywhere: server-sent events and newline-delimited JSON.

mod lines;
mod ndjson;
mod sse;

pub use ndjson::NdjsonDecoder;
pub use sse::{SseDecoder, SseEvent};
