#![no_main]
//! Streams of generateContent, and whole answers.

use libfuzzer_sys::fuzz_target;
use llm_providers::gemini::Gemini;
use llm_providers::{EmbeddingRequest, Endpoint, Protocol};
use llm_providers_fuzz::{check, contains};

fuzz_target!(|data: &[u8]| {
    let protocol = Gemini::new(Endpoint::new(Gemini::BASE_URL).expect("an address"));
    check(&protocol, data, |data| contains(data, "finishReason") || contains(data, "blockReason"));
    let _ = protocol.response(&Default::default(), data);
    let _ = protocol.error(Default::default(), data);
    let _ = protocol.availability(data);
    let _ = protocol.embeddings(&EmbeddingRequest::new("m", ["a"]), data);
});
