//! llmposter: a mock of OpenAI's, Anthropic's and Gemini's servers with their errors, in Rust.

use std::process::Command;

use llm_providers::conformance::{Act, Suite};
use serde_json::{Value, json};

use super::{Server, block_on, expect_clean, installed, provider, start};

/// `length`: the vendor's word for it, which is sent as it is; `overloaded`: its status.
fn serve(length: &str, overloaded: u16) -> Option<Server> {
    let program = installed("bin/llmposter")?;
    // JSON is YAML.
    let script = json!({ "fixtures": Act::ALL.into_iter().filter_map(|act| fixture(act, length, overloaded)).collect::<Vec<_>>() })
        .to_string();
    Some(start(("fixtures.yaml", &script), |file, port| {
        let mut command = Command::new(&program);
        command.arg("-f").arg(file).args(["-p", &port.to_string()]);
        command
    }))
}

fn fixture(act: Act, length: &str, overloaded: u16) -> Option<Value> {
    let asked = json!({"user_message": act.prompt()});
    let error = |status: u16| Some(json!({"match": asked, "error": {"status": status, "message": "as asked"}}));
    match act {
        Act::RateLimited => error(429),
        Act::Overloaded => error(overloaded),
        Act::ServerError => error(500),
        Act::Unauthorized => error(401),
        Act::Truncated => Some(json!({
            "match": asked,
            "response": {"content": "This text is broken off in the middle of its stream."},
            "failure": {"truncate_after_frames": 2},
        })),
        // It has no reasoning.
        Act::Reasoning | Act::Any => None,
        _ => {
            let answer = act.answer()?;
            let call =
                |call: &llm_providers::ToolCall| json!({"name": call.name, "arguments": call.arguments_json().ok()});
            let calls: Vec<_> = answer.message.tool_calls().map(call).collect();
            let response = match act {
                Act::Length => json!({"content": answer.text(), "finish_reason": length}),
                _ if calls.is_empty() => json!({"content": answer.text()}),
                _ => json!({"tool_calls": calls}),
            };
            Some(json!({"match": asked, "response": response}))
        }
    }
}

/// Where llmposter is wrong: vendor, check, reason.
const KNOWN: [(&str, &str, &str); 3] = [
    ("gemini", "is available", "it does not list Gemini's models"),
    ("gemini", "ToolCall: results of tools", "it refuses a turn of function responses, for it has no text"),
    ("gemini", "ParallelToolCalls: results of tools", "it refuses a turn of function responses, for it has no text"),
];

#[test]
fn three_vendors_conform_at_llmposter() {
    let acts = || Act::ALL.into_iter().filter(|act| ![Act::Reasoning, Act::Any].contains(act));
    for (vendor, length, overloaded) in [
        ("openai", "length", 503),
        ("openai-responses", "max_output_tokens", 503),
        ("anthropic", "max_tokens", 529),
        ("gemini", "MAX_TOKENS", 503),
    ] {
        let Some(server) = serve(length, overloaded) else { return };
        let provider = provider(vendor, &server.base);
        let known = KNOWN.into_iter().filter(|(of, ..)| *of == vendor);
        let suite = Suite::new(&*provider, "model-1").playing(acts());
        let suite = known.fold(suite, |suite, (_, check, reason)| suite.except(check, reason));
        let report = block_on(suite.run());
        expect_clean(vendor, &report);
    }
}
