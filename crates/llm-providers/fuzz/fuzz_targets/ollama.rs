#![no_main]
//! Streams of /api/chat, and whole answers.

use libfuzzer_sys::fuzz_target;
use llm_providers::ollama::Ollama;
use llm_providers::{EmbeddingRequest, Endpoint, Protocol};
use llm_providers_fuzz::{check, contains};

fuzz_target!(|data: &[u8]| {
    let protocol = Ollama::new(Endpoint::new(Ollama::BASE_URL).expect("an address"));
    check(&protocol, data, |data| contains(data, "done"));
    let _ = protocol.response(&Default::default(), data);
    let _ = protocol.error(Default::default(), data);
    let _ = protocol.availability(data);
    let _ = protocol.embeddings(&EmbeddingRequest::new("m", ["a"]), data);
});
