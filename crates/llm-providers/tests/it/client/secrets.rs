//! No prompt, answer or key in anything that is shown: every failure through every wrapper.

use std::error::Error as StdError;
use std::fmt::Write;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use llm_providers::client::{
    Budget, CacheConfig, CacheWhen, Candidate, ClientConfig, Fallback, LimitConfig, LlmClient, Price, Prices,
    ResponseCache, Target, provider, resolve,
};
use llm_providers::transport::{Body, Transport};
use llm_providers::{
    BoxFuture, Content, Error, File, FunctionTool, JsonSchema, LlmProvider, Media, Message, OutputFormat, Reasoning,
    Request, Result, ToolCall, ToolResult,
};
use serde_json::json;

use super::capture::{Capture, Kept};
use super::script::paused;

/// What is asked, answered and signed with: none of it may be seen.
const PROMPT: &str = "planted-prompt nobody may read this sentence";
const ANSWER: &str = "planted-answer and nobody may read that one";
const KEY: &str = "planted-key-0123456789abcdef";

/// What a server does to every request.
#[derive(Debug, Clone)]
enum Act {
    Answer {
        status: u16,
        content_type: &'static str,
        pieces: Vec<String>,
    },
    /// The connection cannot be made.
    Refuse,
    /// The connection breaks after these pieces.
    Break {
        content_type: &'static str,
        pieces: Vec<String>,
    },
    /// Nothing comes after these pieces.
    Stall {
        content_type: &'static str,
        pieces: Vec<String>,
    },
    /// Nothing comes at all.
    Silence,
}

struct Server(Act);

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Transport for Server {
    fn send(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>> {
        let endpoint = || "http://host:1".to_owned();
        let reply = move |status: u16, content_type: &str, pieces: &[String], end: Body| {
            let pieces: Vec<Result<Bytes>> = pieces.iter().map(|piece| Ok(Bytes::from(piece.clone()))).collect();
            let body: Body = Box::pin(futures_util::stream::iter(pieces).chain(end));
            let response = http::Response::builder().status(status).header("content-type", content_type);
            Ok(response.header("x-request-id", "r-1").body(body).unwrap())
        };
        Box::pin(async move {
            match &self.0 {
                Act::Answer { status, content_type, pieces } => {
                    reply(*status, content_type, pieces, Box::pin(futures_util::stream::empty()))
                }
                Act::Refuse => Err(Error::Connect { endpoint: endpoint(), source: "refused".into() }),
                Act::Break { content_type, pieces } => {
                    let phase = llm_providers::Phase::Body;
                    let error = Error::Transport { endpoint: endpoint(), phase, source: "reset".into() };
                    reply(200, content_type, pieces, Box::pin(futures_util::stream::iter([Err(error)])))
                }
                Act::Stall { content_type, pieces } => {
                    reply(200, content_type, pieces, Box::pin(futures_util::stream::pending()))
                }
                Act::Silence => std::future::pending().await,
            }
        })
    }
}

const JSON: &str = "application/json";

fn whole_answer(target: &str) -> String {
    let body = match target {
        "openai:m" => json!({
            "id": "1", "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        }),
        "openai-responses:m" => json!({
            "id": "1", "model": "m", "status": "completed", "usage": {"input_tokens": 1, "output_tokens": 1},
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ANSWER}]}],
        }),
        "anthropic:m" => json!({
            "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": ANSWER}], "usage": {"input_tokens": 1, "output_tokens": 1},
        }),
        "gemini:m" => json!({
            "candidates": [{"content": {"role": "model", "parts": [{"text": ANSWER}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}, "modelVersion": "m", "responseId": "1",
        }),
        _ => {
            json!({"model": "m", "message": {"role": "assistant", "content": ANSWER}, "done": true, "done_reason": "stop"})
        }
    };
    body.to_string()
}

/// Everything that a server may do wrong, and one thing right.
fn acts(target: &str) -> Vec<Act> {
    let echo = format!("bad request: {PROMPT}; incorrect API key provided: {KEY}");
    let bodies = [
        json!({"error": {"message": echo, "type": echo, "code": echo, "param": echo, "status": "X"}}).to_string(),
        json!({"type": "error", "error": {"type": "overloaded_error", "message": echo}, "request_id": "r"}).to_string(),
        json!([{"error": {"code": 429, "message": echo, "status": "RESOURCE_EXHAUSTED", "details": [{"x": echo}]}}])
            .to_string(),
        json!({"error": echo}).to_string(),
        json!({"detail": echo}).to_string(),
        format!("<html>{echo}</html>"),
        String::new(),
    ];
    let mut acts = vec![Act::Refuse, Act::Silence];
    let answer =
        |status, content_type, piece: &str| Act::Answer { status, content_type, pieces: vec![piece.to_owned()] };
    for body in &bodies {
        for status in [400, 401, 404, 429, 500, 529] {
            acts.push(answer(status, JSON, body));
        }
        acts.push(answer(200, JSON, body));
        acts.push(answer(200, "text/event-stream", &format!("event: error\ndata: {body}\n\n")));
        acts.push(answer(200, "application/x-ndjson", &format!("{body}\n")));
    }
    let whole = whole_answer(target);
    acts.push(answer(200, JSON, &whole));
    acts.push(answer(200, "image/png", &whole));
    let wrong =
        ["\"planted-answer\"", "{\"choices\": \"planted-answer\", \"content\": \"planted-answer\"}", "planted-answer"];
    for body in wrong.into_iter().chain((1..8).map(|eighth| &whole[..whole.len() * eighth / 8])) {
        for (content_type, framed) in [
            (JSON, body.to_owned()),
            ("text/event-stream", format!("data: {body}\n\n")),
            ("application/x-ndjson", format!("{body}\n")),
        ] {
            acts.push(answer(200, content_type, &framed));
            acts.push(Act::Break { content_type, pieces: vec![framed.clone()] });
            acts.push(Act::Stall { content_type, pieces: vec![framed] });
        }
    }
    acts
}

fn question() -> Request {
    let call = ToolCall::new("c1", "f", json!({"q": PROMPT}).to_string());
    let result = ToolResult::text(&call, PROMPT);
    let mut request = Request::new(
        "m",
        [
            Message::system(PROMPT),
            Message::user(PROMPT),
            Message::new(llm_providers::Role::Assistant, vec![Content::ToolCall(call)]),
            Message::tool_results([result]),
            Message::assistant(PROMPT),
            Message::user(PROMPT),
        ],
    );
    request =
        request.with_tools([FunctionTool::new("f", PROMPT, json!({"type": "object", "description": PROMPT})).into()]);
    request.max_tokens = Some(64);
    request
}

fn error_text(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?} {}", error.kind());
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, " {error} {error:?}").unwrap();
        source = error.source();
    }
    text
}

/// Everything that spans and events said, as one text.
fn said(kept: &Kept) -> String {
    let fields = kept.spans.iter().map(|(_, fields)| fields).chain(kept.events.iter().map(|(_, fields)| fields));
    fields.flatten().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Asks in both ways through all wrappers; everything that can be shown of it.
async fn drive(target: &str, act: Act) -> (String, bool) {
    let settings = ClientConfig::new(Target::parse(target).unwrap()).with_key(KEY);
    let config = resolve(&settings, &ClientConfig::default(), &|_| None).unwrap();
    let prices = Prices::new([("*", Price::new(1.0, 1.0))]).unwrap();
    let cache = Arc::new(ResponseCache::new(CacheConfig::default().with_when(CacheWhen::Always)).unwrap());
    let one = || {
        let provider = provider(&config, Arc::new(Server(act.clone()))).unwrap();
        let limits = LimitConfig::default().with_concurrency(NonZeroU32::MIN).with_tokens_per_minute(NonZeroU32::MAX);
        LlmClient::builder().config(&config).unwrap().provider(provider).limits(limits).prices(prices.clone()).build()
    };
    let fallback = Fallback::in_order([Candidate::new(one().unwrap()), Candidate::new(one().unwrap())]).unwrap();
    let client = LlmClient::builder().provider(fallback).cache(cache).budget(Arc::new(Budget::new(1e9))).prices(prices);
    let client = client.build().unwrap();
    let request = question();
    let mut shown = format!("{client:?} {client:#?} {config:?} {settings:?} {request:?} {request:#?}");
    let mut answered = false;
    match client.complete(&request).await {
        Ok(response) => {
            answered = response.text() == ANSWER;
            write!(shown, "{response:?} {response:#?}").unwrap();
        }
        Err(error) => shown += &error_text(&error),
    }
    // The cache would answer the second question: ask another one.
    let other = request.clone().with_temperature(0.5);
    match client.stream(&other).await {
        Ok(mut stream) => {
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => write!(shown, "{event:?} {event:#?}").unwrap(),
                    Err(error) => shown += &error_text(&error),
                }
                write!(shown, "{stream:?} {:?}", stream.so_far()).unwrap();
            }
        }
        Err(error) => shown += &error_text(&error),
    }
    if let Err(error) = client.available().await {
        // What the server says here cannot be the prompt, which it was not sent; the key it was.
        shown += &error_text(&error).replace("planted-prompt", "");
    }
    write!(shown, "{:?} {}", client.metrics(), client.metrics().snapshot().to_json()).unwrap();
    (shown, answered)
}

#[test]
fn nothing_planted_is_shown() {
    let mut failures = 0;
    for target in ["openai:m", "openai-responses:m", "anthropic:m", "gemini:m", "ollama:m"] {
        let mut answers = 0;
        for act in acts(target) {
            let named = format!("{act:?}").replace("planted", "");
            let ((mut shown, answered), kept) = Capture::of(|| {
                paused(async {
                    let patience = Duration::from_secs(1 << 20);
                    tokio::time::timeout(patience, drive(target, act)).await.expect("every call ends")
                })
            });
            assert!(!kept.spans.is_empty());
            shown += &said(&kept);
            if let Some(place) = shown.find("planted") {
                let around = &shown[place.saturating_sub(200)..(place + 100).min(shown.len())];
                panic!("{target}: {named}\n{around}");
            }
            answers += usize::from(answered);
            failures += usize::from(!answered);
        }
        assert!(answers >= 1, "{target} answers once at least, or nothing is shown here");
    }
    assert!(failures > 500, "{failures}");
}

#[test]
fn parts_of_a_request_show_no_content() {
    let mut request = question();
    request.output = OutputFormat::JsonSchema(JsonSchema::new("name", json!({"description": PROMPT})));
    request.stop = vec![PROMPT.to_owned()];
    request.extra.insert("k".to_owned(), PROMPT.into());
    let media = [Media::url("image/png", PROMPT), Media::id("image/png", PROMPT), Media::bytes("image/png", PROMPT)];
    let content = media
        .into_iter()
        .flat_map(|media| [Content::Image(media.clone()), Content::File(File::new(Some(PROMPT.to_owned()), media))]);
    let content = content.chain([Content::Reasoning(Reasoning::new(PROMPT))]).collect();
    request.messages.push(Message::new(llm_providers::Role::User, content));
    let shown = format!("{request:?} {request:#?} {:?} {:?}", request.messages, request.output);
    assert!(!shown.contains("planted"), "{shown}");
}
