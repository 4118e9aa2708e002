//! Ollama's protocol on recorded traffic and on lines of our own.

use http::{HeaderMap, StatusCode};
use llm_providers::ollama::Ollama;
use llm_providers::{
    ApiErrorKind, Content, Effort, EmbeddingRequest, Endpoint, Error, FunctionTool, JsonSchema, Media, Message, Mode,
    OnUnsupported, OutputFormat, Protocol, Reasoning, ReasoningOptions, Request, Response, Role, StopReason, ToolCall,
    ToolResult,
};
use serde_json::{Value, json};

use crate::cuts::{answer, check_cuts, check_truncations};
use crate::differences::{Differences, Known};
use crate::recordings;

fn ollama() -> Ollama {
    Ollama::new(Endpoint::new(Ollama::BASE_URL).unwrap())
}

fn body(request: &Request, mode: Mode) -> Value {
    serde_json::from_slice(ollama().request(request, mode).unwrap().body()).unwrap()
}

/// What the lines say, read in another way than the decoder does: all lines, then field by field.
fn read_lines(text: &str) -> (String, String, Vec<(String, String, Value)>, Value) {
    let lines: Vec<Value> =
        text.lines().filter(|line| !line.is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect();
    let joined = |field: &str| lines.iter().filter_map(|line| line["message"][field].as_str()).collect::<String>();
    let calls = lines.iter().filter_map(|line| line["message"]["tool_calls"].as_array()).flatten();
    let calls = calls.map(|call| {
        let function = &call["function"];
        (
            call["id"].as_str().unwrap().to_owned(),
            function["name"].as_str().unwrap().to_owned(),
            function["arguments"].clone(),
        )
    });
    (joined("thinking"), joined("content"), calls.collect(), lines.last().unwrap().clone())
}

fn check_response(response: &Response, text: &str, name: &str) {
    let (thinking, content, calls, last) = read_lines(text);
    assert_eq!(response.message.role, Role::Assistant);
    assert_eq!(response.message.reasoning(), thinking, "{name}");
    assert_eq!(response.text(), content, "{name}");
    let read = response.message.tool_calls();
    let read: Vec<_> = read.map(|call| (call.id.clone(), call.name.clone(), call.arguments_json().unwrap())).collect();
    assert_eq!(read, calls, "{name}");
    let blocks = usize::from(!thinking.is_empty()) + usize::from(!content.is_empty()) + calls.len();
    assert_eq!(response.message.content.len(), blocks, "{name}");
    assert_eq!(response.model, last["model"].as_str().unwrap(), "{name}");
    assert_eq!(response.usage.input, last["prompt_eval_count"].as_u64(), "{name}");
    assert_eq!(response.usage.output, last["eval_count"].as_u64(), "{name}");
    assert_eq!(response.usage.raw.as_ref().unwrap()["total_duration"], last["total_duration"], "{name}");
    assert_eq!(response.stop.raw.as_deref(), last["done_reason"].as_str(), "{name}");
    let expected = match (last["done_reason"].as_str().unwrap(), calls.is_empty()) {
        ("length", _) => StopReason::Length,
        ("stop", true) => StopReason::Stop,
        ("stop", false) => StopReason::ToolCalls,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(response.stop.reason, expected, "{name}");
}

#[test]
fn recorded_answers_are_read_whatever_the_cuts() {
    let (mut whole, mut streams, mut calls) = (0, 0, 0);
    let recordings = recordings::of("ollama");
    for recording in &recordings {
        assert_eq!((recording.path.as_str(), recording.status), ("/api/chat", 200));
        let text = &recording.answered;
        let response = if recording.content_type.starts_with("application/x-ndjson") {
            streams += 1;
            check_truncations(&ollama(), text.as_bytes(), text.trim_end().len(), &recording.name);
            check_cuts(&ollama(), text.as_bytes(), &recording.name)
        } else {
            whole += 1;
            ollama().response(&HeaderMap::new(), text.as_bytes()).unwrap()
        };
        check_response(&response, text, &recording.name);
        calls += response.message.tool_calls().count();
    }
    if !recordings.is_empty() {
        assert_eq!((whole, streams, calls), (12, 9, 16));
    }
}

/// A stream's content, sent at once, gives the same answer.
#[test]
fn streams_end_with_what_comes_at_once() {
    for recording in recordings::of("ollama").iter().filter(|r| r.content_type.contains("ndjson")) {
        let (thinking, content, _, mut last) = read_lines(&recording.answered);
        let calls = recording.answered.lines().filter_map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["message"]["tool_calls"].as_array().cloned()
        });
        let calls: Vec<Value> = calls.flatten().collect();
        last["message"] = json!({"role": "assistant", "content": content, "thinking": thinking, "tool_calls": calls});
        let whole = ollama().response(&HeaderMap::new(), last.to_string().as_bytes()).unwrap();
        assert_eq!(answer(&ollama(), &[recording.answered.as_bytes()]).unwrap(), whole, "{}", recording.name);
    }
}

/// A recorded body as our request.
fn read_request(body: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut messages: Vec<Message> = Vec::new();
    for message in body["messages"].as_array().unwrap() {
        let mut content = Vec::new();
        if let Some(thinking) = message["thinking"].as_str() {
            content.push(Content::Reasoning(Reasoning::new(thinking)));
        }
        let role = match message["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => {
                let said = vec![Content::text(text(&message["content"]))];
                messages.push(Message::tool_results([ToolResult::new("", text(&message["tool_name"]), said)]));
                continue;
            }
            other => panic!("{other}"),
        };
        content.push(Content::text(text(&message["content"])));
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            let call = ToolCall::new(text(&call["id"]), text(&function["name"]), function["arguments"].to_string());
            content.push(Content::ToolCall(call));
        }
        messages.push(Message::new(role, content));
    }
    let mut request = Request::new(text(&body["model"]), messages);
    for tool in body["tools"].as_array().into_iter().flatten() {
        let function = &tool["function"];
        let tool =
            FunctionTool::new(text(&function["name"]), text(&function["description"]), function["parameters"].clone());
        request.tools.push(tool.into());
    }
    request.max_tokens = body["options"]["num_predict"].as_u64().map(|n| n.try_into().unwrap());
    request.reasoning = Some(match body["think"].as_bool().unwrap() {
        true => ReasoningOptions::default(),
        false => ReasoningOptions::effort(Effort::None),
    });
    if body["format"].is_object() {
        request.output = OutputFormat::JsonSchema(JsonSchema::new("answer", body["format"].clone()));
    }
    request
}

const KNOWN: [Known; 2] = [
    ("- .options", 16, "no options are no key with us, an empty object there"),
    ("- .messages[].tool_calls[].type", 32, "Ollama's own types have no such key"),
];

#[test]
fn recorded_requests_are_what_we_send() {
    let recordings = recordings::of("ollama");
    let mut differences = Differences::default();
    for recording in &recordings {
        let mode = if recording.asked["stream"] == true { Mode::Stream } else { Mode::Whole };
        differences.add(&recording.name, &recording.asked, &body(&read_request(&recording.asked), mode));
    }
    if !recordings.is_empty() {
        differences.check(&KNOWN);
    }
}

#[test]
fn an_error_in_a_stream_is_an_error_and_what_came_before_stays() {
    let lines = concat!(
        r#"{"model":"m","message":{"role":"assistant","content":"Hel"},"done":false}"#,
        "\n",
        r#"{"error":"model runner has unexpectedly stopped"}"#,
        "\n"
    );
    let Err(Error::Api(error)) = answer(&ollama(), &[lines.as_bytes()]) else { panic!() };
    assert_eq!((error.status, error.kind), (200, ApiErrorKind::Server));
    assert_eq!(error.message, "model runner has unexpectedly stopped");
    assert!(error.is_retryable());
    let whole = ollama().response(&HeaderMap::new(), br#"{"error":{"message":"an imitation's words"}}"#);
    assert!(matches!(whole, Err(Error::Api(error)) if error.message == "an imitation's words"));
}

#[test]
fn what_comes_after_the_end_is_passed_over() {
    let line = r#"{"model":"m","message":{"role":"assistant","content":"a"},"done":true,"done_reason":"stop"}"#;
    let body = format!("{line}\n{line}\n{{\"error\":\"late\"}}\nno JSON\n");
    assert_eq!(check_cuts(&ollama(), body.as_bytes(), "after the end").text(), "a");
}

#[test]
fn errors_have_their_kind() {
    for (status, body, kind, message) in [
        (404, r#"{"error":"model 'x' not found"}"#, ApiErrorKind::NotFound, "model 'x' not found"),
        (
            400,
            r#"{"error":"the input length exceeds the context length"}"#,
            ApiErrorKind::ContextLength,
            "the input length exceeds the context length",
        ),
        (
            503,
            r#"{"error":"server busy, please try again."}"#,
            ApiErrorKind::Overloaded,
            "server busy, please try again.",
        ),
        (401, r#"{"error":"unauthorized"}"#, ApiErrorKind::Authentication, "unauthorized"),
        (499, "", ApiErrorKind::Other, ""),
        (502, "<html>", ApiErrorKind::Server, "<html>"),
    ] {
        let error = ollama().error(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!((error.kind, error.message.as_str()), (kind, message));
        assert_eq!(error.is_retryable(), status >= 500);
    }
}

#[test]
fn parallel_calls_without_ids_are_told_apart() {
    let lines = concat!(
        r#"{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}},{"function":{"index":1,"name":"f","arguments":{}}}]},"done":false}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"g"}}]},"done":false}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}"#,
        "\n"
    );
    let response = check_cuts(&ollama(), lines.as_bytes(), "calls");
    let calls: Vec<_> =
        response.message.tool_calls().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("call_0", "f", "{\"x\":1}"), ("call_1", "f", "{}"), ("call_2", "g", "{}")]);
    assert_eq!(response.stop.reason, StopReason::ToolCalls);
    assert_eq!((response.usage.input, response.usage.output), (Some(0), Some(0)));
    check_truncations(&ollama(), lines.as_bytes(), lines.trim_end().len(), "calls");
}

#[test]
fn log_probs_have_bytes_and_are_not_aligned() {
    let lines = concat!(
        r#"{"model":"m","message":{"role":"assistant","content":"a"},"done":false,"logprobs":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b","logprob":-1.5}]}]}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","eval_count":1}"#,
    );
    let log_probs = check_cuts(&ollama(), lines.as_bytes(), "log-probs").log_probs.unwrap();
    assert!(!log_probs.aligned, "there are no ids");
    let token = &log_probs.tokens[0];
    assert_eq!((token.token.as_str(), token.log_prob, token.bytes.as_deref()), ("a", -0.5, Some(&[97][..])));
    assert_eq!(token.top.iter().map(|top| top.log_prob).collect::<Vec<_>>(), [-0.5, -1.5]);
}

#[test]
fn what_is_asked_is_sent() {
    let call = ToolCall::new("call_9", "f", "{\"x\": 1}");
    let picture = Content::Image(Media::bytes("image/png", &b"png"[..]));
    let mut request = Request::new(
        "m",
        [
            Message::new(Role::User, vec![Content::text("Look"), picture]),
            Message::new(Role::Assistant, vec![Content::ToolCall(call.clone())]),
            Message::tool_results([ToolResult::text(&call, "a"), ToolResult::text(&call, "b")]),
        ],
    );
    request = request.with_max_tokens(5).with_seed(-7).with_log_probs(3).with_temperature(0.5);
    request = request.with_reasoning(ReasoningOptions::effort(Effort::XHigh)).with_output(OutputFormat::JsonObject);
    request = request.with_extra("options", json!({"min_p": 0.25}));
    request.stop = vec!["END".to_owned()];
    (request.top_k, request.top_p) = (Some(4), Some(0.5));
    (request.presence_penalty, request.frequency_penalty) = (Some(1.0), Some(-1.0));
    let ollama = ollama().with_num_ctx(8192).with_keep_alive("1h");
    let sent = ollama.request(&request, Mode::Whole).unwrap();
    assert_eq!(sent.uri(), "http://127.0.0.1:11434/api/chat");
    assert_eq!(
        serde_json::from_slice::<Value>(sent.body()).unwrap(),
        json!({
            "model": "m",
            "messages": [
                {"role": "user", "content": "Look", "images": ["cG5n"]},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "call_9", "function": {"name": "f", "arguments": {"x": 1}}}]},
                {"role": "tool", "content": "a", "tool_name": "f", "tool_call_id": "call_9"},
                {"role": "tool", "content": "b", "tool_name": "f", "tool_call_id": "call_9"},
            ],
            "stream": false,
            "format": "json",
            "options": {
                "num_ctx": 8192, "num_predict": 5, "temperature": 0.5, "top_k": 4, "top_p": 0.5, "seed": -7, "stop": ["END"],
                "presence_penalty": 1.0, "frequency_penalty": -1.0, "min_p": 0.25,
            },
            "think": "high",
            "keep_alive": "1h",
            "logprobs": true,
            "top_logprobs": 3,
        })
    );
}

#[test]
fn what_cannot_be_said_is_refused() {
    let ask =
        |content: Content| ollama().request(&Request::new("m", [Message::new(Role::User, vec![content])]), Mode::Whole);
    assert!(matches!(ask(Content::Image(Media::url("", "https://host/x.png"))), Err(Error::Unsupported { .. })));
    assert!(matches!(ask(Content::ToolCall(ToolCall::new("1", "f", "{\"x\": "))), Err(Error::InvalidRequest { .. })));
    let mut request = Request::new("m", [Message::user("x")]).with_reasoning(ReasoningOptions::budget(100));
    assert!(matches!(ollama().request(&request, Mode::Whole), Err(Error::InvalidRequest { .. })));
    request.on_unsupported = OnUnsupported::Drop;
    assert_eq!(body(&request, Mode::Stream)["think"], true);
}

#[test]
fn models_and_embeddings_are_read() {
    let tags = br#"{"models":[{"name":"qwen3:4b","model":"qwen3:4b","size":1},{"name":"old"}]}"#;
    assert_eq!(ollama().availability(tags).unwrap().models, ["qwen3:4b", "old"]);
    let request = EmbeddingRequest::new("e", ["a", "b"]);
    let sent = ollama().embedding_request(&request).unwrap();
    assert_eq!(sent.uri().path(), "/api/embed");
    assert_eq!(serde_json::from_slice::<Value>(sent.body()).unwrap(), json!({"model": "e", "input": ["a", "b"]}));
    let came = br#"{"model":"e","embeddings":[[0.5,-1],[2,0.25]],"total_duration":9,"prompt_eval_count":2}"#;
    let read = ollama().embeddings(&request, came).unwrap();
    assert_eq!(read.embeddings, [[0.5, -1.0], [2.0, 0.25]]);
    assert_eq!((read.model.as_str(), read.usage.input), ("e", Some(2)));
}
