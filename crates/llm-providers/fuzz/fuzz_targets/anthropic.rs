#![no_main]
//! Streams of Messages, and whole answers.

use libfuzzer_sys::fuzz_target;
use llm_providers::anthropic::Anthropic;
use llm_providers::{Endpoint, Protocol};
use llm_providers_fuzz::{check, contains};

fuzz_target!(|data: &[u8]| {
    let protocol = Anthropic::new(Endpoint::new(Anthropic::BASE_URL).expect("an address"));
    check(&protocol, data, |data| contains(data, "message_stop"));
    let _ = protocol.response(&Default::default(), data);
    let _ = protocol.error(Default::default(), data);
    let _ = protocol.availability(data);
});
