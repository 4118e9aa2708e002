//! Recorded requests: read back into ours, what we send for them is what was sent, but for what is listed.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use llm_providers::openai::{Api, ReasoningKey, TokenBound};
use llm_providers::{
    Content, Effort, Endpoint, File, FunctionTool, JsonSchema, Media, Message, Mode, Opaque, OpenAi, OutputFormat,
    Protocol, Reasoning, ReasoningOptions, Request, Role, Text, Tool, ToolCall, ToolChoice, ToolResult,
};
use serde_json::{Map, Value, json};

use crate::differences::{Differences, Known};
use crate::recordings;

/// What differs in chats: vendor, how many texts stand alone in a list of parts, and the rest.
///
/// We send one text as itself, which every server understands; recordings have lists of one part. Both say the same.
const CHATS: [(&str, usize, &[Known]); 3] = [
    ("openai", 55, &[("- .top_logprobs", 6, "no alternatives are not asked for by the number 0")]),
    ("llamacpp", 41, &[]),
    (
        "openrouter",
        86,
        &[
            ("- .top_logprobs", 6, "no alternatives are not asked for by the number 0"),
            ("+ .stream_options", 58, "usage is asked for in every stream; OpenRouter gives it unasked"),
        ],
    ),
];

const RESPONSES: [Known; 4] = [
    ("- .input[].status", 17, "the result of a tool has no status in our messages"),
    ("+ .instructions", 2, "system messages that a conversation begins with are the instructions"),
    ("~ .input", 2, "where they are missing then"),
    ("~ .input[].content", 1, "a text of the assistant is a list of one part, as in every other recording"),
];

/// What a recording is not read for: its endpoint, and how many.
const OTHER_ENDPOINTS: [(&str, &str, usize); 11] = [
    ("llamacpp", "/props", 1),
    ("llamacpp", "/v1/models", 1),
    ("llamacpp", "/v1/rerank", 6),
    ("openai", "/v1/audio/speech", 5),
    ("openai", "/v1/audio/transcriptions", 5),
    ("openai", "/v1/images/generations", 9),
    ("openai", "/v1/models", 4),
    // The handshakes of a web socket, without a body.
    ("openai", "/v1/responses", 2),
    ("openrouter", "/api/v1/models", 2),
    // Sent and read in openai_embeddings.
    ("llamacpp", "/v1/embeddings", 5),
    ("openai", "/v1/embeddings", 6),
];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn own(data: Value) -> Option<Opaque> {
    Some(Opaque::new("openai", data))
}

fn media(url: &str) -> Media {
    let bytes = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let decoded = bytes.and_then(|(media_type, bytes)| Some((media_type, STANDARD.decode(bytes).ok()?)));
    match decoded {
        Some((media_type, bytes)) => Media::bytes(media_type, bytes),
        None => Media::url(if url.starts_with("data:video") { "video/mp4" } else { "" }, url),
    }
}

fn part(part: &Value) -> Content {
    match text(&part["type"]) {
        "text" | "input_text" | "output_text" => Content::text(text(&part["text"])),
        "image_url" => {
            let mut image = media(text(&part["image_url"]["url"]));
            image.detail = part["image_url"]["detail"].as_str().map(str::to_owned);
            Content::Image(image)
        }
        "video_url" => Content::File(File::new(None, media(text(&part["video_url"]["url"])))),
        "input_audio" => {
            let audio = &part["input_audio"];
            let media_type = match text(&audio["format"]) {
                "mp3" => "audio/mpeg",
                other => panic!("{other}"),
            };
            Content::File(File::new(None, Media::bytes(media_type, STANDARD.decode(text(&audio["data"])).unwrap())))
        }
        other => panic!("a part {other}"),
    }
}

fn content(value: &Value) -> Vec<Content> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![Content::text(text.as_str())],
        parts => list(parts).iter().map(part).collect(),
    }
}

fn chat_message(message: &Value) -> Message {
    match text(&message["role"]) {
        "system" => Message::new(Role::System, content(&message["content"])),
        "user" => Message::new(Role::User, content(&message["content"])),
        "tool" => {
            Message::tool_results([ToolResult::new(text(&message["tool_call_id"]), "", content(&message["content"]))])
        }
        "assistant" => {
            let mut blocks = Vec::new();
            if let Some(text) = message["reasoning_content"].as_str() {
                let mut reasoning = Reasoning::new(text);
                reasoning.opaque = own(json!({ "field": "reasoning_content" }));
                blocks.push(Content::Reasoning(reasoning));
            }
            if message["reasoning_details"].is_array() {
                let mut reasoning = Reasoning::new("");
                reasoning.opaque = own(json!({ "reasoning_details": message["reasoning_details"] }));
                blocks.push(Content::Reasoning(reasoning));
            }
            blocks.extend(content(&message["content"]));
            for call in list(&message["tool_calls"]) {
                let function = &call["function"];
                let call = ToolCall::new(text(&call["id"]), text(&function["name"]), text(&function["arguments"]));
                blocks.push(Content::ToolCall(call));
            }
            Message::new(Role::Assistant, blocks)
        }
        other => panic!("a role {other}"),
    }
}

fn item(item: &Value) -> Message {
    let rest = |keys: &[&str]| {
        let mut rest = item.as_object().unwrap().clone();
        rest.retain(|key, _| !keys.contains(&key.as_str()));
        Value::Object(rest)
    };
    match (text(&item["type"]), text(&item["role"])) {
        ("message", "system") => Message::new(Role::System, content(&item["content"])),
        ("message", "user") => Message::new(Role::User, content(&item["content"])),
        ("message", "assistant") => {
            let blocks = content(&item["content"]).into_iter().map(|block| match block {
                Content::Text(said) => {
                    let mut said = Text::new(said.text);
                    said.opaque = own(json!({ "message": rest(&["content"]) }));
                    Content::Text(said)
                }
                other => other,
            });
            Message::new(Role::Assistant, blocks.collect())
        }
        ("reasoning", _) => {
            let mut reasoning = Reasoning::new("");
            reasoning.opaque = own(item.clone());
            Message::new(Role::Assistant, vec![Content::Reasoning(reasoning)])
        }
        ("function_call", _) => {
            let mut call = ToolCall::new(text(&item["call_id"]), text(&item["name"]), text(&item["arguments"]));
            call.opaque = own(json!({ "item": rest(&["type", "call_id", "name", "arguments"]) }));
            Message::new(Role::Assistant, vec![Content::ToolCall(call)])
        }
        ("function_call_output", _) => {
            Message::tool_results([ToolResult::new(text(&item["call_id"]), "", content(&item["output"]))])
        }
        other => panic!("an item {other:?}"),
    }
}

/// A tool, flat or in its envelope.
fn tool(tool: &Value) -> Tool {
    let function = tool.get("function").unwrap_or(tool);
    let mut read = FunctionTool::new(text(&function["name"]), "", function["parameters"].clone());
    read.description = function["description"].as_str().map(str::to_owned);
    read.strict = function["strict"].as_bool();
    read.into()
}

fn schema(format: &Value) -> OutputFormat {
    let mut schema = JsonSchema::new(text(&format["name"]), format["schema"].clone());
    schema.strict = format["strict"].as_bool();
    OutputFormat::JsonSchema(schema)
}

fn effort(word: &str) -> Effort {
    match word {
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        other => panic!("an effort {other}"),
    }
}

/// Takes a key out of a body.
fn take(body: &mut Map<String, Value>, key: &str) -> Value {
    body.shift_remove(key).unwrap_or_default()
}

/// Reads what both interfaces say alike.
fn read_common(body: &mut Map<String, Value>) -> Request {
    let mut request = Request::new(text(&take(body, "model")), []);
    request.temperature = body.get("temperature").and_then(Value::as_f64);
    if request.temperature.is_some() {
        take(body, "temperature");
    }
    request.parallel_tool_calls = take(body, "parallel_tool_calls").as_bool();
    request.tools = list(&take(body, "tools")).iter().map(tool).collect();
    request.tool_choice = match body.get("tool_choice").and_then(Value::as_str) {
        Some("auto") => Some(ToolChoice::Auto),
        Some("none") => Some(ToolChoice::None),
        Some("required") => Some(ToolChoice::Required),
        _ => None,
    };
    if request.tool_choice.is_some() {
        take(body, "tool_choice");
    }
    request
}

/// What has no word of ours is said in the vendor's.
fn read_extra(request: &mut Request, body: Map<String, Value>, known: &[&str]) {
    for (key, value) in body {
        assert!(known.contains(&key.as_str()), "{key}");
        request.extra.insert(key, value);
    }
}

fn read_chat(mut body: Map<String, Value>) -> (OpenAi, Request, Mode) {
    let mut protocol =
        OpenAi::new(Endpoint::new("http://127.0.0.1:1/v1").unwrap()).with_reasoning_key(ReasoningKey::Object);
    let mut request = read_common(&mut body);
    request.messages = list(&take(&mut body, "messages")).iter().map(chat_message).collect();
    for (key, bound) in
        [("max_tokens", TokenBound::MaxTokens), ("max_completion_tokens", TokenBound::MaxCompletionTokens)]
    {
        if let Some(tokens) = take(&mut body, key).as_u64() {
            request.max_tokens = Some(tokens as u32);
            protocol = protocol.with_token_bound(bound);
        }
    }
    request.seed = take(&mut body, "seed").as_i64();
    request.stop = list(&take(&mut body, "stop")).iter().map(|stop| text(stop).to_owned()).collect();
    let top = take(&mut body, "top_logprobs").as_u64().unwrap_or(0);
    request.log_probs = (take(&mut body, "logprobs") == true).then_some(top as u8);
    let format = take(&mut body, "response_format");
    request.output = match text(&format["type"]) {
        "" => OutputFormat::Text,
        "json_object" => OutputFormat::JsonObject,
        _ => schema(&format["json_schema"]),
    };
    if let Value::Object(reasoning) = take(&mut body, "reasoning") {
        let mut options = ReasoningOptions::default();
        options.effort = reasoning.get("effort").map(|word| effort(text(word)));
        options.budget_tokens = reasoning.get("max_tokens").map(|tokens| tokens.as_u64().unwrap() as u32);
        request.reasoning = Some(options);
    }
    let mode = if take(&mut body, "stream") == true { Mode::Stream } else { Mode::Whole };
    take(&mut body, "stream_options");
    read_extra(&mut request, body, &["include_reasoning", "n", "provider", "temperature"]);
    (protocol, request, mode)
}

fn read_response(mut body: Map<String, Value>) -> (OpenAi, Request, Mode) {
    let mut protocol = OpenAi::new(Endpoint::new(OpenAi::BASE_URL).unwrap()).with_api(Api::Responses);
    let mut request = read_common(&mut body);
    if let Value::String(instructions) = take(&mut body, "instructions") {
        request.messages.push(Message::system(instructions));
    }
    request.messages.extend(list(&take(&mut body, "input")).iter().map(item));
    request.max_tokens = take(&mut body, "max_output_tokens").as_u64().map(|tokens| tokens as u32);
    if let Some(store) = take(&mut body, "store").as_bool() {
        protocol = protocol.with_store(store);
    }
    if let Some(format) = body.get("text").and_then(|text| text.get("format")) {
        request.output = schema(format);
        take(&mut body, "text");
    }
    if let Some(Value::Object(mut reasoning)) = body.shift_remove("reasoning") {
        let mut options = ReasoningOptions::default();
        options.effort = reasoning.shift_remove("effort").map(|word| effort(text(&word)));
        if reasoning.get("summary").is_some_and(|summary| summary == "auto") {
            reasoning.shift_remove("summary");
            options.visible = Some(true);
        }
        request.reasoning = Some(options);
        if !reasoning.is_empty() {
            body.insert("reasoning".to_owned(), reasoning.into());
        }
        take(&mut body, "include");
    }
    let mode = if take(&mut body, "stream") == true { Mode::Stream } else { Mode::Whole };
    let known = ["include", "previous_response_id", "prompt_cache_key", "reasoning", "tool_choice"];
    read_extra(&mut request, body, &known);
    (protocol, request, mode)
}

/// Puts texts that stand alone in a list of parts in the place of the list, and counts them.
fn put_texts_alone(body: &mut Value) -> usize {
    let messages = body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten();
    let contents = messages.filter_map(|message| message.get_mut("content"));
    let mut n_texts = 0;
    for content in contents {
        if let [part] = list(content)
            && part["type"] == "text"
        {
            *content = part["text"].clone();
            n_texts += 1;
        }
    }
    n_texts
}

#[test]
fn recorded_requests_are_what_we_send() {
    let mut others = BTreeMap::<(&str, String), usize>::new();
    let (mut in_responses, mut n_responses, mut n_all_chats) = (Differences::default(), 0, 0);
    for (vendor, n_texts, known) in CHATS {
        let recordings = recordings::of(vendor);
        if recordings.is_empty() {
            return;
        }
        let (mut in_chats, mut n_chats, mut n_alone) = (Differences::default(), 0, 0);
        for recording in &recordings {
            let (differences, read): (_, fn(_) -> _) = match (recording.path.as_str(), &recording.asked) {
                (path, Value::Object(_)) if path.ends_with("/chat/completions") => {
                    n_chats += 1;
                    (&mut in_chats, read_chat)
                }
                (path, Value::Object(_)) if path.ends_with("/responses") => {
                    n_responses += 1;
                    (&mut in_responses, read_response)
                }
                (path, _) => {
                    *others.entry((vendor, path.to_owned())).or_default() += 1;
                    continue;
                }
            };
            let (protocol, request, mode) = read(recording.asked.as_object().unwrap().clone());
            let sent = protocol.request(&request, mode).unwrap_or_else(|error| panic!("{}: {error}", recording.name));
            assert!(recording.path.ends_with(sent.uri().path().trim_start_matches("/v1")), "{}", recording.name);
            let mut asked = recording.asked.clone();
            n_alone += put_texts_alone(&mut asked);
            differences.add(&recording.name, &asked, &serde_json::from_slice(sent.body()).unwrap());
        }
        n_all_chats += n_chats;
        assert_eq!(n_alone, n_texts, "{vendor}");
        in_chats.check(known);
    }
    assert_eq!((n_all_chats, n_responses), (344, 84));
    in_responses.check(&RESPONSES);
    let expected = OTHER_ENDPOINTS.iter().map(|(vendor, path, count)| ((*vendor, (*path).to_owned()), *count));
    let mut expected: BTreeMap<_, _> = expected.collect();
    expected.insert(("openrouter", "/api/v1/embeddings".to_owned()), 5);
    assert_eq!(others, expected);
}
