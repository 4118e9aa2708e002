#![no_main]
//! Streams of chat completions, strict and lenient about their end, and whole answers.

use libfuzzer_sys::fuzz_target;
use llm_providers::openai::StreamEnd;
use llm_providers::{Endpoint, OpenAi, Protocol};
use llm_providers_fuzz::{check, contains};

fuzz_target!(|data: &[u8]| {
    let protocol = OpenAi::new(Endpoint::new("http://localhost/v1").expect("an address"));
    check(&protocol, data, |data| contains(data, "[DONE]"));
    let _ = protocol.response(&Default::default(), data);
    let _ = protocol.error(Default::default(), data);
    let lenient = protocol.with_stream_end(StreamEnd::FinishReason);
    check(&lenient, data, |data| contains(data, "finish_reason"));
});
