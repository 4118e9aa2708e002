//! Anthropic's protocol on recorded traffic and on events of our own.

use http::{HeaderMap, StatusCode};
use llm_providers::anthropic::Anthropic;
use llm_providers::{
    ApiErrorKind, Content, Effort, Endpoint, Error, File, FunctionTool, JsonSchema, Media, MediaSource, Message, Mode,
    Opaque, OutputFormat, Protocol, Reasoning, ReasoningOptions, Request, Response, Role, StopReason, StreamEvent,
    Text, Tool, ToolCall, ToolChoice, ToolResult,
};
use serde_json::{Value, json};

use crate::cuts::{answer, check_cuts, check_truncations};
use crate::differences::{Differences, Known};
use crate::recordings::{self, Recording};

fn anthropic() -> Anthropic {
    Anthropic::new(Endpoint::new(Anthropic::BASE_URL).unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A block of ours in the vendor's words.
fn said(content: &Content) -> Value {
    let own =
        |opaque: &Option<Opaque>| opaque.as_ref().map_or(Value::Null, |opaque| opaque.of("anthropic").unwrap().clone());
    match content {
        Content::Text(said) if said.opaque.is_some() => {
            json!({"type": "text", "text": said.text, "citations": own(&said.opaque)["citations"]})
        }
        Content::Text(said) => json!({"type": "text", "text": said.text}),
        Content::Reasoning(reasoning) => match own(&reasoning.opaque) {
            Value::Object(own) if own.contains_key("data") => json!({"type": "redacted_thinking", "data": own["data"]}),
            own => json!({"type": "thinking", "thinking": reasoning.text, "signature": own["signature"]}),
        },
        Content::ToolCall(call) => {
            assert_eq!(call.opaque, None);
            json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments_json().unwrap()})
        }
        Content::Other(opaque) => opaque.of("anthropic").unwrap().clone(),
        other => panic!("{other:?}"),
    }
}

/// A stream as the message that comes at once, read in another way than the decoder does.
fn gather(stream: &str) -> Value {
    let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut message = Value::Null;
    let mut inputs: Vec<String> = Vec::new();
    for event in events.map(|event| serde_json::from_str::<Value>(event).unwrap()) {
        let index = event["index"].as_u64().unwrap_or_default() as usize;
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
                inputs.push(String::new());
            }
            "content_block_delta" => {
                let block = &mut message["content"][index];
                for key in ["text", "thinking", "signature"] {
                    if let Some(more) = event["delta"][key].as_str() {
                        block[key] = (text(&block[key]) + more).into();
                    }
                }
                if let Some(more) = event["delta"]["partial_json"].as_str() {
                    inputs[index] += more;
                }
                if event["delta"]["type"] == "citations_delta" {
                    let mut citations = block["citations"].as_array().cloned().unwrap_or_default();
                    citations.push(event["delta"]["citation"].clone());
                    block["citations"] = citations.into();
                }
            }
            "content_block_stop" if !inputs[index].is_empty() => {
                message["content"][index]["input"] = serde_json::from_str(&inputs[index]).unwrap();
            }
            "message_delta" => {
                for part in ["delta", "usage"] {
                    for (key, value) in event[part].as_object().unwrap() {
                        match part {
                            "delta" => message[key] = value.clone(),
                            _ => message["usage"][key] = value.clone(),
                        }
                    }
                }
            }
            "content_block_stop" | "message_stop" | "ping" => {}
            other => panic!("{other}"),
        }
    }
    message
}

fn check_response(response: &Response, message: &Value, name: &str) {
    let mut content = message["content"].as_array().unwrap().clone();
    for block in &mut content {
        let block = block.as_object_mut().unwrap();
        let is_call = block["type"] == "tool_use";
        block.retain(|key, value| match key.as_str() {
            "citations" => !value.is_null(),
            "caller" if is_call => value["type"] != "direct",
            _ => true,
        });
    }
    let read: Vec<Value> = response.message.content.iter().map(said).collect();
    assert_eq!(read, content, "{name}");
    assert_eq!((response.id.as_str(), response.model.as_str()), (&*text(&message["id"]), &*text(&message["model"])));
    let usage = &message["usage"];
    let count = |key: &str| usage[key].as_u64().unwrap();
    let (read, written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
    assert_eq!(response.usage.input, Some(count("input_tokens") + read + written), "{name}");
    assert_eq!((response.usage.cached_input, response.usage.cache_write), (Some(read), Some(written)), "{name}");
    assert_eq!(response.usage.output, Some(count("output_tokens")), "{name}");
    assert_eq!(response.usage.reasoning, usage["output_tokens_details"]["thinking_tokens"].as_u64(), "{name}");
    assert_eq!(response.usage.raw.as_ref(), Some(usage), "{name}");
    assert_eq!(response.stop.raw.as_deref(), message["stop_reason"].as_str(), "{name}");
    let expected = match message["stop_reason"].as_str().unwrap() {
        "end_turn" => StopReason::Stop,
        "max_tokens" => StopReason::Length,
        "stop_sequence" => StopReason::StopSequence,
        "tool_use" => StopReason::ToolCalls,
        other => panic!("{name}: {other}"),
    };
    assert_eq!(response.stop.reason, expected, "{name}");
    assert_eq!(response.metadata.get("stop_sequence").unwrap_or(&Value::Null), &message["stop_sequence"], "{name}");
}

/// The same answer with arguments as one and the same JSON text.
fn normal(mut response: Response) -> Response {
    for content in &mut response.message.content {
        if let Content::ToolCall(call) = content {
            call.arguments = call.arguments_json().unwrap().to_string();
        }
    }
    response
}

#[test]
fn recorded_answers_are_read_whatever_the_cuts() {
    let recordings = recordings::of("anthropic");
    let (mut whole, mut streams, mut errors, mut other) = (0, 0, 0, 0);
    let mut blocks = std::collections::BTreeMap::<String, usize>::new();
    for Recording { name, path, status, content_type, answered, .. } in &recordings {
        let body = answered.as_bytes();
        let response = match (path.as_str(), status) {
            ("/v1/messages", 200) if content_type.starts_with("text/event-stream") => {
                streams += 1;
                let message = gather(answered);
                let response = check_cuts(&anthropic(), body, name);
                check_truncations(&anthropic(), body, answered.trim_end().len(), name);
                check_response(&response, &message, name);
                let at_once = anthropic().response(&HeaderMap::new(), message.to_string().as_bytes()).unwrap();
                assert_eq!(normal(response.clone()), normal(at_once), "{name}");
                response
            }
            ("/v1/messages", 200) => {
                whole += 1;
                let response = anthropic().response(&HeaderMap::new(), body).unwrap();
                check_response(&response, &serde_json::from_str(answered).unwrap(), name);
                response
            }
            (_, 400..) => {
                errors += 1;
                check_error(*status, answered, name);
                continue;
            }
            (path, _) if path.starts_with("/v1/files") => {
                other += 1;
                continue;
            }
            (path, _) => panic!("{name}: {path}"),
        };
        for block in &response.message.content {
            *blocks.entry(text(&said(block)["type"])).or_default() += 1;
        }
    }
    if !recordings.is_empty() {
        assert_eq!((whole, streams, errors, other), (149, 94, 12, 2));
        let expected = [
            ("redacted_thinking", 5),
            ("server_tool_use", 2),
            ("text", 165),
            ("thinking", 20),
            ("tool_use", 88),
            ("web_search_tool_result", 2),
        ];
        assert_eq!(blocks.iter().map(|(kind, n)| (kind.as_str(), *n)).collect::<Vec<_>>(), expected);
    }
}

fn check_error(status: u16, answered: &str, name: &str) {
    let error = anthropic().error(StatusCode::from_u16(status).unwrap(), answered.as_bytes());
    let said: Value = serde_json::from_str(answered).unwrap();
    let kind = match status {
        400 => ApiErrorKind::InvalidRequest,
        401 => ApiErrorKind::Authentication,
        404 => ApiErrorKind::NotFound,
        other => panic!("{name}: {other}"),
    };
    assert_eq!((error.kind, error.status), (kind, status), "{name}");
    assert_eq!(error.code.as_deref(), said["error"]["type"].as_str(), "{name}");
    assert_eq!(error.message, text(&said["error"]["message"]), "{name}");
    assert_eq!(error.request_id.as_deref(), said["request_id"].as_str(), "{name}");
    assert!(!error.is_retryable(), "{name}");
}

/// A recorded block as ours.
fn read_block(block: &Value) -> Content {
    let opaque = |value: Value| Some(Opaque::new("anthropic", value));
    let source = |source: &Value| match source["type"].as_str().unwrap() {
        "url" => Media::url("", text(&source["url"])),
        "file" => Media::id("", text(&source["file_id"])),
        "text" => Media::bytes(text(&source["media_type"]), text(&source["data"]).into_bytes()),
        other => panic!("{other}"),
    };
    match block["type"].as_str().unwrap() {
        "text" => Content::text(text(&block["text"])),
        "thinking" => {
            let mut reasoning = Reasoning::new(text(&block["thinking"]));
            reasoning.opaque = opaque(json!({"signature": block["signature"]}));
            Content::Reasoning(reasoning)
        }
        "tool_use" => {
            Content::ToolCall(ToolCall::new(text(&block["id"]), text(&block["name"]), block["input"].to_string()))
        }
        "tool_result" => {
            let content = block["content"].as_array().unwrap().iter().map(read_block).collect();
            Content::ToolResult(ToolResult::new(text(&block["tool_use_id"]), "", content))
        }
        "document" => Content::File(File::new(block["title"].as_str().map(str::to_owned), source(&block["source"]))),
        "server_tool_use" | "web_search_tool_result" => Content::Other(Opaque::new("anthropic", block.clone())),
        other => panic!("{other}"),
    }
}

/// A recorded body as our request.
fn read_request(body: &Value) -> Request {
    let mut messages = Vec::new();
    for system in body["system"].as_array().into_iter().flatten() {
        let mut message = Message::system(text(&system["text"]));
        message.cache_breakpoint = !system["cache_control"].is_null();
        messages.push(message);
    }
    for said in body["messages"].as_array().unwrap() {
        let role = match said["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        };
        let blocks = said["content"].as_array().unwrap();
        let mut message = Message::new(role, blocks.iter().map(read_block).collect());
        message.cache_breakpoint = blocks.iter().any(|block| !block["cache_control"].is_null());
        messages.push(message);
    }
    let mut request = Request::new(text(&body["model"]), messages);
    for tool in body["tools"].as_array().into_iter().flatten() {
        if !tool["type"].is_null() {
            request.tools.push(Tool::Vendor(Opaque::new("anthropic", tool.clone())));
            continue;
        }
        let mut function =
            FunctionTool::new(text(&tool["name"]), text(&tool["description"]), tool["input_schema"].clone());
        function.strict = tool["strict"].as_bool();
        function.cache_breakpoint = !tool["cache_control"].is_null();
        request.tools.push(function.into());
    }
    request.max_tokens = body["max_tokens"].as_u64().map(|n| n.try_into().unwrap());
    request.temperature = body["temperature"].as_f64();
    request.stop = body["stop_sequences"].as_array().into_iter().flatten().map(text).collect();
    request.tool_choice = match body["tool_choice"]["type"].as_str() {
        None => None,
        Some("auto") => Some(ToolChoice::Auto),
        Some("any") => Some(ToolChoice::Required),
        Some("none") => Some(ToolChoice::None),
        Some(_) => Some(ToolChoice::Function(text(&body["tool_choice"]["name"]))),
    };
    request.reasoning = body["thinking"].as_object().map(|thinking| {
        let mut options = ReasoningOptions::default();
        options.budget_tokens = thinking.get("budget_tokens").map(|n| n.as_u64().unwrap().try_into().unwrap());
        options
    });
    if let Some(schema) = body["output_config"]["format"].get("schema") {
        request.output = OutputFormat::JsonSchema(JsonSchema::new("answer", schema.clone()));
    }
    if let Some(cache_control) = body.get("cache_control") {
        request = request.with_extra("cache_control", cache_control.clone());
    }
    request
}

const KNOWN: [Known; 4] = [
    ("~ .messages", 2, "a system message between turns, which the newest models take, goes to the top with us"),
    ("+ .system", 2, "where it is then"),
    (
        "+ .messages[].content[].cache_control.ttl",
        8,
        "the life of what is cached is the client's setting, not each mark's",
    ),
    ("- .messages[].content[].citations", 2, "switching citations of a document on has no place in our messages"),
];

#[test]
fn recorded_requests_are_what_we_send() {
    let recordings = recordings::of("anthropic");
    let mut differences = Differences::default();
    let mut compared = 0;
    for recording in recordings.iter().filter(|recording| recording.path == "/v1/messages") {
        let mode = if recording.asked["stream"] == true { Mode::Stream } else { Mode::Whole };
        let mut anthropic = anthropic();
        let marked = |key: &str| {
            recording.asked[key].as_array().into_iter().flatten().find_map(|item| item["cache_control"]["ttl"].as_str())
        };
        if let Some(ttl) = marked("system").or(marked("tools")) {
            anthropic = anthropic.with_cache_ttl(ttl);
        }
        let sent = anthropic.request(&read_request(&recording.asked), mode).unwrap();
        let ours = serde_json::from_slice(sent.body()).unwrap();
        differences.add(&recording.name, &recording.asked, &ours);
        compared += 1;
    }
    if !recordings.is_empty() {
        assert_eq!(compared, 254);
        differences.check(&KNOWN);
    }
}

fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", text(&data["type"]))
}

fn start() -> String {
    event(json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 5, "output_tokens": 1},
    }}))
}

fn end(reason: &str) -> String {
    event(
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 9}}),
    ) + &event(json!({"type": "message_stop"}))
}

fn block(index: usize, block: Value) -> String {
    event(json!({"type": "content_block_start", "index": index, "content_block": block}))
}

fn delta(index: usize, delta: Value) -> String {
    event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn stop(index: usize) -> String {
    event(json!({"type": "content_block_stop", "index": index}))
}

#[test]
fn interleaved_blocks_are_told_apart() {
    let body = [
        start(),
        block(0, json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})),
        block(1, json!({"type": "tool_use", "id": "b", "name": "g", "input": {}})),
        delta(1, json!({"type": "input_json_delta", "partial_json": "{\"y\":"})),
        event(json!({"type": "ping"})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"x\": \"é"})),
        event(json!({"type": "of_tomorrow", "index": 0, "delta": {"text": 1}})),
        delta(1, json!({"type": "input_json_delta", "partial_json": "2}"})),
        stop(1),
        delta(0, json!({"type": "input_json_delta", "partial_json": "\"}"})),
        stop(0),
        block(2, json!({"type": "tool_use", "id": "c", "name": "h", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ""})),
        stop(2),
        end("tool_use"),
    ];
    let body = body.concat();
    let response = check_cuts(&anthropic(), body.as_bytes(), "interleaved");
    let calls: Vec<_> = response.message.tool_calls().map(|c| (c.id.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("a", "{\"x\": \"é\"}"), ("b", "{\"y\":2}"), ("c", "{}")]);
    assert_eq!((response.usage.input, response.usage.output), (Some(12), Some(9)));
    assert_eq!((response.usage.cached_input, response.usage.cache_write), (Some(4), Some(5)));
    check_truncations(&anthropic(), body.as_bytes(), body.trim_end().len(), "interleaved");
}

#[test]
fn blocks_of_the_vendors_own_are_gathered_and_go_back() {
    let result = json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u"}]});
    let body = [
        start(),
        block(0, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"query\":"})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "\"sky\"}"})),
        stop(0),
        block(1, result.clone()),
        stop(1),
        block(2, json!({"type": "compaction", "content": ""})),
        delta(2, json!({"type": "compaction_delta", "content": "sum"})),
        delta(2, json!({"type": "compaction_delta", "content": "mary"})),
        stop(2),
        block(3, json!({"type": "text", "text": ""})),
        delta(3, json!({"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "u"}})),
        delta(3, json!({"type": "text_delta", "text": "Blue."})),
        stop(3),
        block(4, json!({"type": "redacted_thinking", "data": "cipher"})),
        stop(4),
        end("pause_turn"),
    ];
    let response = check_cuts(&anthropic(), body.concat().as_bytes(), "server tools");
    assert_eq!(response.stop.reason, StopReason::Pause);
    let blocks: Vec<Value> = response.message.content.iter().map(said).collect();
    assert_eq!(
        blocks,
        [
            json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "sky"}}),
            result,
            json!({"type": "compaction", "content": "summary"}),
            json!({"type": "text", "text": "Blue.", "citations": [{"type": "web_search_result_location", "url": "u"}]}),
            json!({"type": "redacted_thinking", "data": "cipher"}),
        ]
    );
    let sent = anthropic().request(&Request::new("m", [response.message]), Mode::Whole).unwrap();
    let sent: Value = serde_json::from_slice(sent.body()).unwrap();
    assert_eq!(sent["messages"][0]["content"], Value::Array(blocks));
}

#[test]
fn an_error_after_a_200_has_its_kind() {
    for (kind, expected, retryable) in [
        ("overloaded_error", ApiErrorKind::Overloaded, true),
        ("rate_limit_error", ApiErrorKind::RateLimit, true),
        ("api_error", ApiErrorKind::Server, true),
        ("timeout_error", ApiErrorKind::Timeout, true),
        ("invalid_request_error", ApiErrorKind::InvalidRequest, false),
        ("of_tomorrow", ApiErrorKind::Other, false),
    ] {
        let failure = json!({"type": "error", "error": {"type": kind, "message": "Overloaded"}, "request_id": "req_1"});
        let body = start() + &block(0, json!({"type": "text", "text": "Hel"})) + &event(failure.clone());
        let Err(Error::Api(error)) = answer(&anthropic(), &[body.as_bytes()]) else { panic!("{kind}") };
        assert_eq!((error.status, error.kind, error.is_retryable()), (200, expected, retryable));
        assert_eq!((error.message.as_str(), error.request_id.as_deref()), ("Overloaded", Some("req_1")));
        let whole = anthropic().response(&HeaderMap::new(), failure.to_string().as_bytes());
        assert!(matches!(whole, Err(Error::Api(error)) if error.kind == expected));
    }
}

#[test]
fn what_comes_after_the_end_is_passed_over() {
    let body = start() + &end("end_turn") + ": comment\n\n" + &event(json!({"type": "ping"})) + "data: no JSON\n\n";
    assert_eq!(check_cuts(&anthropic(), body.as_bytes(), "after the end").stop.reason, StopReason::Stop);
    let mut decoder = anthropic().decoder();
    let mut events = std::collections::VecDeque::new();
    decoder.push(body.as_bytes(), &mut events).unwrap();
    assert!(matches!(events.back(), Some(StreamEvent::End(_))));
}

#[test]
fn statuses_have_their_kind() {
    for (status, kind, message, expected, retryable) in [
        (529, "overloaded_error", "Overloaded", ApiErrorKind::Overloaded, true),
        (429, "rate_limit_error", "slow down", ApiErrorKind::RateLimit, true),
        (402, "billing_error", "pay", ApiErrorKind::Quota, false),
        (400, "invalid_request_error", "Your credit balance is too low to access", ApiErrorKind::Quota, false),
        (400, "invalid_request_error", "prompt is too long: 200001 tokens", ApiErrorKind::ContextLength, false),
        (
            400,
            "invalid_request_error",
            "Output blocked by content filtering policy",
            ApiErrorKind::ContentPolicy,
            false,
        ),
        (413, "request_too_large", "too large", ApiErrorKind::RequestTooLarge, false),
        (403, "permission_error", "no", ApiErrorKind::PermissionDenied, false),
        (500, "api_error", "oh", ApiErrorKind::Server, true),
        (504, "timeout_error", "late", ApiErrorKind::Timeout, true),
        (418, "of_tomorrow", "tea", ApiErrorKind::Other, false),
    ] {
        let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
        let error = anthropic().error(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(
            (error.kind, error.is_retryable(), error.code.as_deref()),
            (expected, retryable, Some(kind)),
            "{message}"
        );
    }
    let error = anthropic().error(StatusCode::BAD_GATEWAY, b"<html>");
    assert_eq!((error.kind, error.message.as_str(), error.code), (ApiErrorKind::Server, "<html>", None));
}

#[test]
fn sloppy_streams_are_read_and_broken_ones_are_not() {
    // No message_start, nulls and missing fields, a block that is not closed, no message_delta.
    let body = block(0, json!({"type": "text", "text": null})) + &delta(0, json!({"text": "Hi", "type": "text_delta"}));
    let response =
        answer(&anthropic(), &[(body.clone() + &event(json!({"type": "message_stop"}))).as_bytes()]).unwrap();
    assert_eq!((response.text().as_str(), response.stop.reason), ("Hi", StopReason::Other));
    assert!(matches!(answer(&anthropic(), &[body.as_bytes()]), Err(Error::Incomplete { .. })));
    let lost = start() + &delta(0, json!({"type": "text_delta", "text": "Hi"})) + &end("end_turn");
    assert!(matches!(answer(&anthropic(), &[lost.as_bytes()]), Err(Error::Decode { .. })));
    assert!(matches!(answer(&anthropic(), &[b"data: {\"type\": \n\n"]), Err(Error::Decode { .. })));
    assert!(matches!(answer(&anthropic(), &[b"data: \xff\n\n"]), Err(Error::Decode { .. })));
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(anthropic().request(request, Mode::Whole).unwrap().body()).unwrap()
}

#[test]
fn turns_alternate_and_results_come_first() {
    let calls = [ToolCall::new("a", "f", "{}"), ToolCall::new("b", "f", "{\"x\": 1}")];
    let mut thought = Reasoning::new("hm");
    thought.opaque = Some(Opaque::new("anthropic", json!({"signature": "sig"})));
    let mut foreign = Reasoning::new("hm");
    foreign.opaque = Some(Opaque::new("openai", json!({"signature": "sig"})));
    let mut last = Message::user("And?");
    last.cache_breakpoint = true;
    let request = Request::new(
        "m",
        [
            Message::system("One."),
            Message::user("Hi"),
            Message::user("there"),
            Message::new(
                Role::Assistant,
                vec![Content::Reasoning(foreign), Content::Reasoning(thought), Content::text("")],
            ),
            Message::new(Role::Assistant, calls.clone().map(Content::ToolCall).to_vec()),
            Message::tool_results([ToolResult::text(&calls[0], "1")]),
            Message::user("Quick"),
            Message::tool_results([ToolResult::text(&calls[1], "no").failed()]),
            Message::system("Two."),
            last,
        ],
    );
    let sent = body(&request);
    let says = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(sent["system"], json!([says("One."), says("Two.")]));
    assert_eq!(sent["max_tokens"], 4096);
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [says("Hi"), says("there")]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {"x": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [says("1")]},
                {"type": "tool_result", "tool_use_id": "b", "content": [says("no")], "is_error": true},
                says("Quick"),
                {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}},
            ]},
        ])
    );
}

#[test]
fn settings_are_sent() {
    let mut request =
        Request::new("m", [Message::user("x")]).with_reasoning(ReasoningOptions::budget(2000).visible(false));
    request.tools = vec![FunctionTool::new("f", "d", json!({"type": "object"})).into()];
    request.parallel_tool_calls = Some(false);
    (request.top_k, request.top_p, request.stop) = (Some(3), Some(0.5), vec!["END".to_owned()]);
    let sent = body(&request);
    assert_eq!(sent["thinking"], json!({"type": "enabled", "budget_tokens": 2000, "display": "omitted"}));
    assert_eq!(sent["max_tokens"], 6096, "the budget counts within the bound");
    assert_eq!(sent["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!((&sent["top_k"], &sent["top_p"], &sent["stop_sequences"]), (&json!(3), &json!(0.5), &json!(["END"])));
    request.reasoning = Some(ReasoningOptions::effort(Effort::Minimal));
    let sent = body(&request);
    assert_eq!((&sent["thinking"], &sent["output_config"]), (&json!({"type": "adaptive"}), &json!({"effort": "low"})));
    request.reasoning = Some(ReasoningOptions::effort(Effort::None));
    assert_eq!(body(&request)["thinking"], json!({"type": "disabled"}));

    let endpoint = Endpoint::new("http://gateway/a").unwrap().with_key(Some("key".into()));
    let sent = Anthropic::new(endpoint.clone()).with_beta("b1").with_beta("b2").with_version("2030-01-01");
    let sent = sent.request(&request, Mode::Stream).unwrap();
    assert_eq!(sent.uri(), "http://gateway/a/v1/messages");
    let header = |name: &str| sent.headers()[name].to_str().unwrap();
    assert_eq!(
        (header("x-api-key"), header("anthropic-version"), header("anthropic-beta")),
        ("key", "2030-01-01", "b1,b2")
    );
    let sent = Anthropic::new(endpoint).with_bearer().availability_request().unwrap();
    assert_eq!(sent.headers()["authorization"], "Bearer key");
    assert!(!sent.headers().contains_key("x-api-key"));
    assert_eq!(anthropic().availability(br#"{"data":[{"id":"a"},{"id":"b"}]}"#).unwrap().models, ["a", "b"]);
}

#[test]
fn pictures_and_files_are_sent() {
    let pdf = Media::bytes("application/pdf", &b"pdf"[..]);
    let mut cited = Text::new("Blue.");
    cited.opaque = Some(Opaque::new("anthropic", json!({"citations": [{"url": "u"}]})));
    let content = vec![
        Content::Image(Media::bytes("image/png", &b"png"[..])),
        Content::Image(Media::url("", "https://host/a.png")),
        Content::File(File::new(Some("a.pdf".to_owned()), pdf)),
        Content::File(File::new(None, Media::bytes("text/markdown", &b"# A"[..]))),
        Content::File(File::new(None, Media::id("", "file_1"))),
        Content::Text(cited),
    ];
    let sent = body(&Request::new("m", [Message::new(Role::User, content)]));
    assert_eq!(
        sent["messages"][0]["content"],
        json!([
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}},
            {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"}, "title": "a.pdf"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# A"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            {"type": "text", "text": "Blue.", "citations": [{"url": "u"}]},
        ])
    );
    let bare = Media::bytes("", &b"png"[..]);
    assert!(matches!(bare.source, MediaSource::Bytes(_)));
    let request = Request::new("m", [Message::new(Role::User, vec![Content::Image(bare)])]);
    assert!(matches!(anthropic().request(&request, Mode::Whole), Err(Error::InvalidRequest { .. })));
}
