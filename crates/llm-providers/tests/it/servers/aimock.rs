//! aimock: a mock of all vendors' servers, in Node.

use std::process::Command;

use llm_providers::conformance::{Act, Suite};
use serde_json::{Value, json};

use super::{Server, block_on, expect_clean, installed, provider, start};

pub(super) fn serve() -> Option<Server> {
    let program = installed("node_modules/@copilotkit/aimock/dist/cli.js")?;
    let script = json!({ "fixtures": Act::ALL.into_iter().filter_map(fixture).collect::<Vec<_>>() }).to_string();
    Some(start(("fixtures.json", &script), |file, port| {
        let mut command = Command::new("node");
        command.arg(&program).args(["-p", &port.to_string(), "-f"]).arg(file);
        command
    }))
}

fn fixture(act: Act) -> Option<Value> {
    let error = |status: u16, kind: &str| json!({"error": {"message": "as asked", "type": kind}, "status": status});
    let response = match act {
        Act::RateLimited => error(429, "rate_limit_error"),
        Act::Overloaded => error(529, "overloaded_error"),
        Act::ServerError => error(500, "api_error"),
        Act::Unauthorized => error(401, "authentication_error"),
        Act::Truncated => json!({"content": "This text is broken off in the middle of its stream."}),
        Act::Any => return None,
        _ => {
            let answer = act.answer()?;
            let calls: Vec<_> = answer.message.tool_calls().collect();
            let mut response = serde_json::Map::new();
            if !calls.is_empty() {
                let call = |call: &&llm_providers::ToolCall| json!({"name": call.name, "arguments": call.arguments});
                response.insert("toolCalls".to_owned(), calls.iter().map(call).collect());
            } else {
                response.insert("content".to_owned(), answer.text().into());
            }
            if act == Act::Reasoning {
                response.insert("reasoning".to_owned(), answer.message.reasoning().into());
            }
            if act == Act::Length {
                response.insert("finishReason".to_owned(), "length".into());
            }
            Value::Object(response)
        }
    };
    let mut fixture = json!({"match": {"userMessage": act.prompt()}, "response": response});
    if act == Act::Truncated {
        // Without a delay between the pieces nothing is sent at all.
        fixture.as_object_mut()?.extend([
            ("truncateAfterChunks".to_owned(), json!(3)),
            ("chunkSize".to_owned(), json!(6)),
            ("latency".to_owned(), json!(20)),
        ]);
    }
    Some(fixture)
}

/// Where aimock is wrong: vendor, check, reason.
const KNOWN: [(&str, &str, &str); 7] = [
    ("gemini", "is available", "it does not list Gemini's models"),
    ("openai-responses", "Length: whole", "the status is incomplete, and no incomplete_details say why"),
    ("openai-responses", "Length: stream", "the status is incomplete, and no incomplete_details say why"),
    ("ollama", "Reasoning: whole", "it is sent as reasoning_content; Ollama's word is thinking"),
    ("ollama", "Reasoning: stream", "it is sent as reasoning_content; Ollama's word is thinking"),
    ("ollama", "Length: whole", "the script's reason is not sent"),
    ("ollama", "Length: stream", "the script's reason is not sent"),
];

#[test]
fn every_vendor_conforms_at_aimock() {
    let Some(server) = serve() else { return };
    for vendor in ["openai", "openai-responses", "anthropic", "gemini", "ollama"] {
        let provider = provider(vendor, &server.base);
        let known = KNOWN.into_iter().filter(|(of, ..)| *of == vendor);
        let suite = Suite::new(&*provider, "model-1");
        let suite = known.fold(suite, |suite, (_, check, reason)| suite.except(check, reason));
        let report = block_on(suite.run());
        expect_clean(vendor, &report);
    }
}
