//! Requests of chats that no recording has.

use llm_providers::openai::{ReasoningKey, SystemRole, TokenBound};
use llm_providers::{
    Content, Effort, Endpoint, Error, Feature, File, FunctionTool, JsonSchema, Media, Message, Mode, OnUnsupported,
    Opaque, OpenAi, OutputFormat, Protocol, ReasoningOptions, Request, Role, Tool, ToolCall, ToolChoice, ToolResult,
};
use serde_json::{Value, json};

use crate::openai_chat_answers::protocol;

fn at(base: &str) -> OpenAi {
    OpenAi::new(Endpoint::new(base).unwrap())
}

fn body(protocol: &OpenAi, request: &Request, mode: Mode) -> Value {
    serde_json::from_slice(protocol.request(request, mode).unwrap().body()).unwrap()
}

fn user(content: Vec<Content>) -> Request {
    Request::new("m", [Message::new(Role::User, content)])
}

#[test]
fn every_setting_has_its_key() {
    let mut request = Request::new("m", [Message::system("s"), Message::user("q")]).with_max_tokens(7).with_seed(3);
    request.temperature = Some(0.5);
    request.top_p = Some(0.9);
    request.top_k = Some(40);
    request.stop = vec!["END".into()];
    request.presence_penalty = Some(0.25);
    request.frequency_penalty = Some(-0.25);
    request.log_probs = Some(2);
    request.parallel_tool_calls = Some(false);
    request.tool_choice = Some(ToolChoice::Function("f".into()));
    request.tools = vec![FunctionTool::new("f", "d", json!({ "type": "object", "properties": {} })).into()];
    request.reasoning = Some(ReasoningOptions::effort(Effort::Low));
    request.output = OutputFormat::JsonObject;
    request.extra = json!({ "stream_options": { "x": 1 }, "metadata": { "a": "b" } }).as_object().unwrap().clone();
    assert_eq!(
        body(&protocol().with_system_role(SystemRole::Developer), &request, Mode::Stream),
        json!({
            "model": "m",
            "messages": [{ "role": "developer", "content": "s" }, { "role": "user", "content": "q" }],
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "seed": 3,
            "presence_penalty": 0.25,
            "frequency_penalty": -0.25,
            "parallel_tool_calls": false,
            "stop": ["END"],
            "logprobs": true,
            "top_logprobs": 2,
            "response_format": { "type": "json_object" },
            "tools": [{ "type": "function", "function": { "name": "f", "description": "d",
                "parameters": { "type": "object", "properties": {} } } }],
            "tool_choice": { "type": "function", "function": { "name": "f" } },
            "reasoning_effort": "low",
            "stream": true,
            "stream_options": { "include_usage": true, "x": 1 },
            "metadata": { "a": "b" },
        })
    );
}

#[test]
fn the_address_chooses_the_defaults() {
    let mut request = Request::new("m", [Message::user("q")]).with_max_tokens(7);
    let mut reasoning = ReasoningOptions::budget(9).visible(false);
    reasoning.effort = Some(Effort::High);
    request.reasoning = Some(reasoning);
    request.on_unsupported = OnUnsupported::Drop;
    for (base, bound, reasoning, has_top_k) in [
        (OpenAi::BASE_URL, "max_completion_tokens", json!(null), false),
        ("https://eu.api.openai.com/v1", "max_completion_tokens", json!(null), false),
        (
            "https://openrouter.ai/api/v1",
            "max_tokens",
            json!({ "effort": "high", "max_tokens": 9, "exclude": true }),
            true,
        ),
        ("http://127.0.0.1:8080/v1", "max_tokens", json!(null), true),
        ("https://api.openai.com.example/v1", "max_tokens", json!(null), true),
        ("https://notapi.openai.com/v1", "max_tokens", json!(null), true),
    ] {
        let sent = body(&at(base), &request, Mode::Whole);
        assert_eq!((&sent[bound], &sent["reasoning"]), (&json!(7), &reasoning), "{base}");
        assert_eq!(sent["reasoning_effort"], if reasoning.is_null() { json!("high") } else { json!(null) }, "{base}");
        assert_eq!(at(base).capabilities().has(Feature::TopK), has_top_k, "{base}");
        assert!(sent.get("stream").is_none() && sent.get("stream_options").is_none());
    }
    let other = at(OpenAi::BASE_URL).with_token_bound(TokenBound::MaxTokens).with_reasoning_key(ReasoningKey::Object);
    let sent = body(&other.with_usage_in_streams(false), &request, Mode::Stream);
    assert_eq!((&sent["max_tokens"], &sent["reasoning"]["effort"]), (&json!(7), &json!("high")));
    assert!(sent.get("stream_options").is_none());
    request.on_unsupported = OnUnsupported::Refuse;
    let refused = at(OpenAi::BASE_URL).request(&request, Mode::Whole).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { feature: Feature::Reasoning, .. }), "{refused}");
}

#[test]
fn headers_carry_the_key_and_who_pays() {
    let endpoint = Endpoint::new("http://host/v1").unwrap().with_key(Some("planted".into()));
    let protocol = OpenAi::new(endpoint).with_organization("org").unwrap().with_project("proj").unwrap();
    let request = protocol.request(&user(vec![Content::text("q")]), Mode::Stream).unwrap();
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    assert_eq!((header("authorization"), header("accept")), ("Bearer planted", "text/event-stream"));
    assert_eq!((header("openai-organization"), header("openai-project")), ("org", "proj"));
    assert_eq!(request.uri(), "http://host/v1/chat/completions");
    assert!(!format!("{protocol:?} {request:?}").contains("planted"));
}

#[test]
fn media_have_a_part_each() {
    let mut detailed = Media::bytes("image/png", &b"abc"[..]);
    detailed.detail = Some("low".into());
    let pdf = |media| Content::File(File::new(Some("a.pdf".into()), media));
    let request = user(vec![
        Content::text("q"),
        Content::Image(detailed),
        Content::Image(Media::url("", "http://host/a.png")),
        pdf(Media::bytes("application/pdf", &b"abc"[..])),
        pdf(Media::id("", "file-1")),
        Content::File(File::new(None, Media::bytes("audio/mpeg", &b"abc"[..]))),
        Content::File(File::new(None, Media::url("video/mp4", "http://host/a.mp4"))),
        Content::Other(Opaque::new("openai", json!({ "type": "new" }))),
        Content::Other(Opaque::new("anthropic", json!({ "type": "other" }))),
    ]);
    assert_eq!(
        body(&protocol(), &request, Mode::Whole)["messages"][0]["content"],
        json!([
            { "type": "text", "text": "q" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,YWJj", "detail": "low" } },
            { "type": "image_url", "image_url": { "url": "http://host/a.png" } },
            { "type": "file", "file": { "file_data": "data:application/pdf;base64,YWJj", "filename": "a.pdf" } },
            { "type": "file", "file": { "file_id": "file-1", "filename": "a.pdf" } },
            { "type": "input_audio", "input_audio": { "data": "YWJj", "format": "mp3" } },
            { "type": "video_url", "video_url": { "url": "http://host/a.mp4" } },
            { "type": "new" },
        ])
    );
}

#[test]
fn tools_answer_in_messages_of_their_own() {
    let call = ToolCall::new("c", "f", "");
    let results = [ToolResult::text(&call, "1"), ToolResult::text(&ToolCall::new("d", "g", "{}"), "2").failed()];
    let mut both = Message::tool_results(results.clone());
    both.role = Role::User;
    both.content.push(Content::text("and?"));
    let request = Request::new(
        "m",
        [
            Message::new(Role::Assistant, vec![Content::text("a"), Content::text("b"), Content::ToolCall(call)]),
            Message::tool_results(results),
            both,
        ],
    );
    let tool = |id: &str, content: &str| json!({ "role": "tool", "tool_call_id": id, "content": content });
    assert_eq!(
        body(&protocol(), &request, Mode::Whole)["messages"],
        json!([
            { "role": "assistant", "content": "ab", "tool_calls": [
                { "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
            tool("c", "1"), tool("d", "2"), tool("c", "1"), tool("d", "2"),
            { "role": "user", "content": "and?" },
        ])
    );
}

#[test]
fn strict_schemas_are_made_to_fit() {
    let open = json!({ "type": "object", "properties": { "x": { "type": "integer", "default": 1 } } });
    let fit = json!({ "type": "object", "properties": { "x": { "type": "integer" } }, "required": ["x"],
        "additionalProperties": false });
    for (strict, expected) in [(Some(true), &fit), (Some(false), &open), (None, &open)] {
        let mut schema = JsonSchema::new("answer", open.clone());
        schema.strict = strict;
        let mut tool = FunctionTool::new("f", "d", open.clone());
        tool.strict = strict;
        let request = user(vec![Content::text("q")]).with_tools([tool.into()]);
        let sent = body(&protocol(), &request.with_output(OutputFormat::JsonSchema(schema)), Mode::Whole);
        let format = &sent["response_format"]["json_schema"];
        assert_eq!((&format["schema"], &format["name"]), (expected, &json!("answer")));
        assert_eq!(format.get("strict").and_then(Value::as_bool), strict);
        assert_eq!(&sent["tools"][0]["function"]["parameters"], expected);
        assert_eq!(sent["tools"][0]["function"].get("strict").and_then(Value::as_bool), strict);
    }
}

#[test]
fn what_cannot_be_said_is_refused_without_content() {
    let secret = || Content::text("secret");
    let tool = |provider: &str| Tool::Vendor(Opaque::new(provider, json!({ "type": "secret" })));
    for request in [
        user(vec![Content::Image(Media::id("", "secret"))]),
        user(vec![Content::File(File::new(None, Media::url("audio/wav", "http://secret")))]),
        user(vec![Content::ToolCall(ToolCall::new("c", "secret", "{}"))]),
        Request::new("m", [Message::new(Role::Tool, vec![secret()])]),
        Request::new("m", [Message::new(Role::Assistant, vec![Content::Image(Media::url("", "http://secret"))])]),
        user(vec![secret()]).with_tools([tool("anthropic")]),
    ] {
        let error = protocol().request(&request, Mode::Whole).unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    let own = user(vec![secret()]).with_tools([tool("openai")]);
    assert_eq!(body(&protocol(), &own, Mode::Whole)["tools"], json!([{ "type": "secret" }]));
}
