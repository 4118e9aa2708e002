//! The vendors' own Python clients beside ours, at the same server: what is sent, and what is understood of the answers.

use std::process::Command;

use llm_providers::{
    Content, FunctionTool, JsonSchema, Media, Message, OutputFormat, Request, StopReason, Tool, ToolCall, ToolChoice,
    ToolResult,
};
use serde_json::{Value, json};

use super::{aimock, block_on, capture, installed, provider};

const VENDORS: [&str; 5] = ["openai", "openai-responses", "anthropic", "gemini", "ollama"];
const CONVERSATIONS: [&str; 6] = ["text", "settings", "schema", "image", "tool", "tool_results"];
const PLAIN: &str = "conformance of plain text";

/// The conversations of tools/llm/official_clients.py.
fn conversation(name: &str, vendor: &str) -> Request {
    let request = |messages: Vec<Message>| {
        let request = Request::new("model-1", messages);
        if vendor == "anthropic" { request.with_max_tokens(256) } else { request }
    };
    let asking = || vec![Message::user(PLAIN)];
    let answer = json!({
        "type": "object",
        "properties": {"answer": {"type": "integer"}},
        "required": ["answer"],
        "additionalProperties": false,
    });
    let city = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where"}},
        "required": ["city"],
        "additionalProperties": false,
    });
    let mut weather = FunctionTool::new("get_weather", "The weather of a city", city);
    weather.strict = (vendor == "openai-responses").then_some(true);
    let weather = [Tool::from(weather)];
    match name {
        "text" => request(vec![Message::system("Be brief."), Message::user(PLAIN)]),
        "settings" => {
            let mut request = request(asking()).with_max_tokens(64).with_temperature(0.5);
            request.top_p = Some(0.9);
            if vendor != "openai-responses" {
                request.stop = vec!["END".to_owned()];
            }
            if !vendor.starts_with("openai") {
                request.top_k = Some(20);
            }
            if !["anthropic", "openai-responses"].contains(&vendor) {
                (request.seed, request.presence_penalty, request.frequency_penalty) = (Some(7), Some(0.1), Some(0.2));
            }
            if vendor != "anthropic" {
                request.log_probs = Some(2);
            }
            request
        }
        "schema" => request(asking()).with_output(OutputFormat::JsonSchema(JsonSchema::new("answer", answer))),
        "image" => {
            let image = Media::bytes("image/png", &b"\x89PNG\r\n\x1a\nnot really"[..]);
            let content = vec![Content::text(PLAIN), Content::Image(image)];
            request(vec![Message::new(llm_providers::Role::User, content)])
        }
        "tool" => {
            let mut request = request(vec![Message::user("conformance of one tool call")]).with_tools(weather);
            if vendor != "ollama" {
                request.tool_choice = Some(ToolChoice::Required);
            }
            if !["gemini", "ollama"].contains(&vendor) {
                request.parallel_tool_calls = Some(false);
            }
            request
        }
        "tool_results" => {
            let call = ToolCall::new("call_1", "get_weather", "{\"city\": \"Paris\"}");
            let result = ToolResult::text(&call, "sunny");
            let called = Message::new(llm_providers::Role::Assistant, vec![Content::ToolCall(call)]);
            let messages =
                vec![Message::user("weather?"), called, Message::tool_results([result]), Message::user(PLAIN)];
            request(messages).with_tools(weather)
        }
        other => panic!("no conversation {other}"),
    }
}

/// What the official client printed, by conversation.
fn official(vendor: &str, base: &str) -> Option<Vec<Value>> {
    let python = installed("python/bin/python")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/llm/official_clients.py");
    let output = Command::new(python).arg(script).args([vendor, base]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Where two bodies differ, as `path: theirs / ours`.
fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<_> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let absent = Value::String("(absent)".to_owned());
                let of = |map: &serde_json::Map<String, Value>| map.get(key).unwrap_or(&absent).clone();
                differences(&format!("{path}.{key}"), &of(left), &of(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (place, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{path}[{place}]"), left, right, found);
            }
        }
        (left, right) if left == right || left.as_f64().is_some_and(|left| right.as_f64() == Some(left)) => {}
        (left, right) => found.push(format!("{path}: {left} / {right}")),
    }
}

/// Differences of requests that are meant, with their reasons.
const MEANT: [(&str, &str, &str); 17] = [
    (
        "openai",
        ".max_completion_tokens: 64 / \"(absent)\"",
        "only OpenAI's own servers know this name: others get max_tokens",
    ),
    ("openai", ".max_tokens: \"(absent)\" / 64", "the name that all compatible servers know"),
    (
        "anthropic",
        r#".system: "Be brief." / [{"type":"text","text":"Be brief."}]"#,
        "a text stands for a block of text; only blocks can be marked for the cache",
    ),
    (
        "anthropic",
        r#".messages[2].content[0].content: "sunny" / [{"type":"text","text":"sunny"}]"#,
        "a text stands for a block of text; only blocks can be pictures",
    ),
    ("gemini", r#".generationConfig: {} / "(absent)""#, "nothing is set"),
    ("gemini", r#".systemInstruction.role: "user" / "(absent)""#, "the role of an instruction is not read"),
    (
        "gemini",
        r#".contents[0].parts[1].inlineData.mimeType: "(absent)" / "image/png""#,
        "the client spells it mime_type; the server takes both",
    ),
    (
        "gemini",
        r#".contents[0].parts[1].inlineData.mime_type: "image/png" / "(absent)""#,
        "the client spells it mime_type; the server takes both",
    ),
    (
        "gemini",
        r#".tools[0].functionDeclarations[0].parameters: "(absent)" / {"type":"object","properties":{"city":{"type":"string","description":"Where"}},"required":["city"]}"#,
        "the form that every version takes, without the keyword it refuses",
    ),
    (
        "gemini",
        r#".tools[0].functionDeclarations[0].parameters_json_schema: {"type":"object","properties":{"city":{"type":"string","description":"Where"}},"required":["city"],"additionalProperties":false} / "(absent)""#,
        "the form that every version takes, without the keyword it refuses",
    ),
    (
        "gemini",
        r#".contents[1].parts[0].functionCall.id: "(absent)" / "call_1""#,
        "our calls have ids, so that results of parallel calls find theirs",
    ),
    (
        "gemini",
        r#".contents[2].parts[0].functionResponse.id: "(absent)" / "call_1""#,
        "our calls have ids, so that results of parallel calls find theirs",
    ),
    ("ollama", r#".tools: [] / "(absent)""#, "there are none"),
    (
        "ollama",
        r#".tools[0].function.parameters.additionalProperties: "(absent)" / false"#,
        "the client drops what it does not know; schemas are the caller's",
    ),
    ("ollama", r#".messages[1].content: "(absent)" / """#, "a message always has a content here"),
    (
        "ollama",
        r#".messages[1].tool_calls[0].id: "(absent)" / "call_1""#,
        "our calls have ids, so that results of parallel calls find theirs",
    ),
    (
        "ollama",
        r#".messages[2].tool_call_id: "(absent)" / "call_1""#,
        "our calls have ids, so that results of parallel calls find theirs",
    ),
];

#[test]
fn requests_equal_those_of_the_official_clients() {
    let mut unlisted = Vec::new();
    let mut met = vec![0; MEANT.len()];
    for vendor in VENDORS {
        let (base, asked) = capture::serve();
        if official(vendor, &base).is_none() {
            return;
        }
        let theirs = std::mem::take(&mut *asked.lock().unwrap());
        assert_eq!(theirs.len(), CONVERSATIONS.len(), "{vendor}");
        let provider = provider(vendor, &base);
        for (name, (path, body)) in CONVERSATIONS.into_iter().zip(theirs) {
            block_on(provider.complete(&conversation(name, vendor))).unwrap_err();
            let (our_path, our_body) =
                asked.lock().unwrap().pop().unwrap_or_else(|| panic!("{vendor} {name}: nothing came"));
            assert_eq!(our_path.split('?').next(), path.split('?').next(), "{vendor} {name}");
            let mut found = Vec::new();
            differences("", &body, &our_body, &mut found);
            for difference in found {
                let meant = MEANT.iter().position(|(of, what, _)| *of == vendor && difference == *what);
                match meant {
                    Some(place) => met[place] += 1,
                    None => unlisted.push(format!("{vendor} {name}: {difference}")),
                }
            }
        }
    }
    assert!(unlisted.is_empty(), "theirs / ours:\n{}", unlisted.join("\n"));
    for (count, (vendor, what, _)) in met.iter().zip(MEANT) {
        assert!(*count > 0, "listed, but it does not occur: {vendor} {what}");
    }
}

#[test]
fn answers_mean_what_the_official_clients_take_them_for() {
    let Some(server) = aimock::serve() else { return };
    for vendor in VENDORS {
        let Some(theirs) = official(vendor, &server.base) else { return };
        let provider = provider(vendor, &server.base);
        for (name, theirs) in CONVERSATIONS.into_iter().zip(theirs) {
            assert_eq!(theirs["name"], name);
            let ours = match block_on(provider.complete(&conversation(name, vendor))) {
                Ok(ours) => ours,
                Err(error) => panic!("{vendor} {name}: {error}; the official client: {theirs}"),
            };
            let calls: Vec<_> =
                ours.message.tool_calls().map(|call| json!([call.name, call.arguments_json().ok()])).collect();
            assert_eq!(theirs["text"], ours.text(), "{vendor} {name}");
            assert_eq!(theirs["calls"], json!(calls), "{vendor} {name}");
            let tokens = theirs["output_tokens"].as_u64().unwrap_or(0);
            assert_eq!(tokens, ours.usage.output.unwrap_or(0), "{vendor} {name}");
            let expected = if calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls };
            assert_eq!(ours.stop.reason, expected, "{vendor} {name}: {}", theirs["stop"]);
        }
    }
}
