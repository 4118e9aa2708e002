#![no_main]
//! Streams of the Responses API, and whole answers.

use libfuzzer_sys::fuzz_target;
use llm_providers::openai::Api;
use llm_providers::{Endpoint, OpenAi, Protocol};
use llm_providers_fuzz::{check, contains};

fuzz_target!(|data: &[u8]| {
    let protocol = OpenAi::new(Endpoint::new("http://localhost/v1").expect("an address")).with_api(Api::Responses);
    check(&protocol, data, |data| contains(data, "response.completed") || contains(data, "response.incomplete"));
    let _ = protocol.response(&Default::default(), data);
});
