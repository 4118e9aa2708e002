//! llama.cpp's own server, on a tiny model with random weights: real sampling, real log-probabilities, bytes that are not UTF-8.

use std::process::Command;
use std::time::{Duration, Instant};

use llm_providers::conformance::{Act, Suite};
use llm_providers::{JsonSchema, LlmProvider, Message, OutputFormat, Request, StopReason};
use serde_json::{Value, json};

use super::{Server, block_on, expect_clean, installed, provider, start};

pub(super) fn serve() -> Option<Server> {
    let (python, model) = (installed("python/bin/python")?, installed("tiny-llama.gguf")?);
    let script = std::path::absolute(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/llm/llama_server.py")).unwrap();
    let server = start(("unused", ""), |_, port| {
        let mut command = Command::new(&python);
        // By its name alone, which is what the server calls the model.
        command.arg(&script).arg(model.file_name().unwrap_or_default()).arg(port.to_string());
        command.current_dir(model.parent().unwrap_or(&model));
        command
    });
    // It listens before its model is there, and answers 503 until then.
    let (provider, deadline) = (provider("openai", &server.base), Instant::now() + Duration::from_secs(60));
    while let Err(error) = block_on(provider.available()) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(server)
}

fn ask(provider: &dyn LlmProvider, request: &Request) -> llm_providers::Response {
    let whole = block_on(provider.complete(request)).unwrap();
    let streamed = block_on(async { provider.stream(request).await?.response().await }).unwrap();
    // The same seed gives the same tokens; ids and times of the two calls differ.
    assert_eq!(streamed.message, whole.message);
    assert_eq!(streamed.stop, whole.stop);
    assert_eq!(streamed.log_probs, whole.log_probs);
    assert_eq!((streamed.usage.input, streamed.usage.output), (whole.usage.input, whole.usage.output));
    whole
}

#[test]
fn a_real_server_conforms() {
    let Some(server) = serve() else { return };
    for vendor in ["openai", "openai-responses", "anthropic"] {
        let provider = provider(vendor, &server.base);
        let report = block_on(Suite::new(&*provider, "tiny-llama").playing([Act::Any]).run());
        expect_clean(vendor, &report);
    }
}

#[test]
fn a_real_server_gives_log_probabilities_and_they_are_not_aligned() {
    let Some(server) = serve() else { return };
    let provider = provider("openai", &server.base);
    let asking = |max_tokens| {
        Request::new("tiny-llama", [Message::user("hello")])
            .with_seed(7)
            .with_temperature(1.0)
            .with_max_tokens(max_tokens)
            .with_log_probs(3)
            // The prompt's cache changes the last bits of log-probabilities.
            .with_extra("cache_prompt", false)
    };
    let response = ask(&*provider, &asking(24));
    let log_probs = response.log_probs.unwrap();
    assert_eq!(response.stop.reason, StopReason::Length);
    assert_eq!(response.usage.output, Some(24));
    assert!(log_probs.tokens.iter().all(|token| token.log_prob < 0.0 && token.bytes.is_some() && token.id.is_some()));
    assert!(log_probs.tokens.iter().all(|token| token.top.len() == 3));
    // Random bytes are seldom UTF-8: the server merges tokens, and says nothing about it.
    assert!(log_probs.tokens.len() < 24 && !log_probs.aligned);
}

#[test]
fn a_real_server_follows_a_schema_and_refuses_nonsense() {
    let Some(server) = serve() else { return };
    let provider = provider("openai", &server.base);
    let schema = json!({
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": false,
    });
    let request = Request::new("tiny-llama", [Message::user("Are you sure?")])
        .with_seed(1)
        .with_max_tokens(64)
        .with_output(OutputFormat::JsonSchema(JsonSchema::new("answer", schema)));
    let answer: Value = serde_json::from_str(&ask(&*provider, &request).text()).unwrap();
    assert!(answer["sure"].is_boolean(), "{answer}");

    let wrong = Request::new("tiny-llama", [Message::user("hello")]).with_extra("max_tokens", "many");
    let error = block_on(provider.complete(&wrong)).unwrap_err();
    assert_eq!(error.status().map(|status| status / 100), Some(4), "{error}");
    assert!(!error.is_retryable());
}
