//! Streams and requests of the Responses API that no recording has.

use llm_providers::openai::Api;
use llm_providers::{
    ApiErrorKind, Content, Effort, Endpoint, Error, File, Media, Message, Mode, OpenAi, Protocol, ReasoningOptions,
    Request, Response, Role, StopReason, ToolResult,
};
use serde_json::{Value, json};

use crate::cuts;
use crate::openai_responses_answers::responses;

fn stream(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn check(events: &[Value]) -> Response {
    let body = stream(events);
    let response = cuts::check_cuts(&responses(), body.as_bytes(), "own");
    cuts::check_truncations(&responses(), body.as_bytes(), body.trim_end().len(), "own");
    response
}

fn completed(output: Value) -> Value {
    let usage = json!({ "input_tokens": 5, "output_tokens": 3, "output_tokens_details": { "reasoning_tokens": 1 } });
    json!({ "type": "response.completed", "response":
        { "id": "r", "model": "m", "status": "completed", "output": output, "usage": usage } })
}

fn created() -> Value {
    json!({ "type": "response.created", "response": { "id": "r", "model": "m", "status": "in_progress", "output": [] } })
}

/// An item of each kind, with two parts where it can have them.
fn items() -> Value {
    json!([
        { "type": "reasoning", "id": "rs", "summary": [{ "type": "summary_text", "text": "one" }, { "type": "summary_text", "text": "two" }],
            "encrypted_content": "e" },
        { "type": "web_search_call", "id": "ws", "status": "completed" },
        { "type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{\"x\":1}", "status": "completed" },
        { "type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [
            { "type": "output_text", "text": "text", "annotations": [{ "type": "url_citation", "url": "u" }],
                "logprobs": [{ "token": "text", "logprob": -0.5, "bytes": [1], "top_logprobs": [] }] },
            { "type": "refusal", "refusal": "no" }] },
    ])
}

/// However much of it the events say before the last one, the answer is the same.
#[test]
fn what_events_leave_out_is_in_the_items() {
    let items = items();
    let done =
        |index: usize| json!({ "type": "response.output_item.done", "output_index": index, "item": items[index] });
    let all = check(&[
        created(),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": { "type": "reasoning", "id": "rs", "summary": [] } }),
        json!({ "type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "one" }),
        json!({ "type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "tw" }),
        json!({ "type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "o" }),
        done(0),
        done(1),
        json!({ "type": "response.output_item.added", "output_index": 2,
            "item": { "type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "" } }),
        json!({ "type": "response.output_item.added", "output_index": 3, "item": { "type": "message", "id": "msg", "content": [] } }),
        json!({ "type": "response.content_part.added", "output_index": 3, "content_index": 0, "part": { "type": "output_text", "text": "" } }),
        json!({ "type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{\"x\":" }),
        json!({ "type": "response.output_text.delta", "output_index": 3, "content_index": 0, "delta": "text",
            "logprobs": [{ "token": "text", "logprob": -0.5, "bytes": [1], "top_logprobs": [] }] }),
        json!({ "type": "response.function_call_arguments.delta", "output_index": 2, "delta": "1}" }),
        done(2),
        json!({ "type": "response.refusal.delta", "output_index": 3, "content_index": 1, "delta": "no" }),
        done(3),
        json!({ "type": "response.something_new", "delta": { "x": 1 } }),
        completed(items.clone()),
    ]);
    assert_eq!(all.message.reasoning(), "one\n\ntwo");
    assert_eq!((all.text().as_str(), all.message.content.len()), ("text", 5));
    assert_eq!((all.stop.reason.clone(), all.usage.reasoning), (StopReason::ToolCalls, Some(1)));
    assert_eq!(all.log_probs.as_ref().unwrap().tokens.len(), 1);
    assert!(matches!(&all.message.content[1], Content::Other(item) if item.data["type"] == "web_search_call"));
    for events in [
        vec![created(), completed(items.clone())],
        vec![completed(items.clone())],
        vec![created(), done(0), done(1), done(2), done(3), completed(json!([]))],
    ] {
        assert!(check(&events) == all, "{events:?}");
    }
    let whole = completed(items)["response"].to_string();
    assert!(responses().response(&http::HeaderMap::new(), whole.as_bytes()).unwrap() == all);
}

#[test]
fn everything_goes_back_as_it_came() {
    let answer = check(&[completed(items())]);
    let result = ToolResult::text(answer.message.tool_calls().next().unwrap(), "42");
    let request = Request::new("m", [Message::user("q"), answer.message.clone(), Message::tool_results([result])]);
    let input = |protocol: &OpenAi| -> Vec<Value> {
        let sent = protocol.request(&request, Mode::Whole).unwrap();
        let body: Value = serde_json::from_slice(sent.body()).unwrap();
        body["input"].as_array().unwrap()[1..].to_vec()
    };
    let mut expected = items().as_array().unwrap().clone();
    expected[3]["content"] = json!([{ "type": "output_text", "text": "text" }, { "type": "refusal", "refusal": "no" }]);
    expected.push(json!({ "type": "function_call_output", "call_id": "c", "output": "42" }));
    assert_eq!(input(&responses()), expected);
    // What the vendor did not store has no id to be found by; encrypted reasoning says it all.
    for item in [2, 3] {
        expected[item].as_object_mut().unwrap().shift_remove("id");
    }
    assert_eq!(input(&responses().with_store(false)), expected);
    // Another server knows nothing of it.
    let foreign = input(&responses().with_name("another"));
    let kinds: Vec<_> = foreign.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["function_call", "message", "function_call_output"]);
    // Nor does a chat, which keeps texts and calls.
    let sent = responses().with_api(Api::Chat).request(&request, Mode::Whole).unwrap();
    let body: Value = serde_json::from_slice(sent.body()).unwrap();
    let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{\"x\":1}" } });
    assert_eq!(
        body["messages"][1],
        json!({ "role": "assistant", "content": "text", "refusal": "no", "tool_calls": [call] })
    );
}

#[test]
fn failures_in_a_stream_are_errors() {
    let failed = json!({ "type": "response.failed", "response": { "status": "failed", "output": [],
        "error": { "code": "server_error", "message": "m" }, "usage": { "input_tokens": 5 } } });
    for (event, kind, code) in [
        (failed, ApiErrorKind::Server, Some("server_error")),
        (
            json!({ "type": "error", "code": "rate_limit_exceeded", "message": "m" }),
            ApiErrorKind::RateLimit,
            Some("rate_limit_exceeded"),
        ),
        (
            json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "m" } }),
            ApiErrorKind::InvalidRequest,
            Some("invalid_request_error"),
        ),
        (json!({ "type": "odd", "error": { "code": 503, "message": "m" } }), ApiErrorKind::Overloaded, Some("503")),
    ] {
        let body = stream(&[created(), event]);
        let Err(Error::Api(error)) = cuts::answer(&responses(), &[body.as_bytes()]) else { panic!("{body}") };
        assert_eq!((error.status, error.kind, error.code.as_deref()), (200, kind, code));
        assert_eq!(error.message, "m");
    }
}

#[test]
fn only_its_own_word_ends_a_stream() {
    let body = stream(&[created()]) + "data: [DONE]\n\n";
    let error = cuts::answer(&responses(), &[body.as_bytes()]).unwrap_err();
    assert!(matches!(&error, Error::Incomplete { missing, .. } if missing == "response.completed"), "{error}");
    let body = stream(&[created(), completed(items())]) + "data: [DONE]\n\ndata: {\n\n";
    assert!(cuts::answer(&responses(), &[body.as_bytes()]).is_ok());
    for (why, reason) in [
        ("max_output_tokens", StopReason::Length),
        ("content_filter", StopReason::ContentFilter),
        ("new", StopReason::Other),
    ] {
        let event = json!({ "type": "response.incomplete", "response": { "output": items(), "incomplete_details": { "reason": why } } });
        let stop = check(&[created(), event]).stop;
        assert_eq!((stop.reason, stop.raw.as_deref()), (reason, Some(why)));
    }
}

fn body(protocol: &OpenAi, request: &Request) -> Value {
    serde_json::from_slice(protocol.request(request, Mode::Whole).unwrap().body()).unwrap()
}

#[test]
fn settings_have_their_place() {
    let mut request =
        Request::new("m", [Message::system("a"), Message::system("b"), Message::user("q"), Message::system("c")]);
    request.reasoning = Some(ReasoningOptions::effort(Effort::XHigh).visible(true));
    request.log_probs = Some(3);
    request.max_tokens = Some(7);
    assert_eq!(
        body(&responses().with_store(false), &request),
        json!({
            "model": "m",
            "instructions": "a\n\nb",
            "input": [
                { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "q" }] },
                { "type": "message", "role": "system", "content": [{ "type": "input_text", "text": "c" }] },
            ],
            "max_output_tokens": 7,
            "top_logprobs": 3,
            "store": false,
            "reasoning": { "effort": "xhigh", "summary": "auto" },
            "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        })
    );
    request.reasoning = Some(ReasoningOptions::budget(5));
    let refused = responses().request(&request, Mode::Whole).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
}

#[test]
fn media_have_a_part_each() {
    let pdf = |media| Content::File(File::new(Some("a.pdf".into()), media));
    let content = vec![
        Content::Image(Media::bytes("image/png", &b"abc"[..])),
        Content::Image(Media::url("", "http://host/a.png")),
        Content::Image(Media::id("", "file-1")),
        pdf(Media::bytes("application/pdf", &b"abc"[..])),
        pdf(Media::url("", "http://host/a.pdf")),
        pdf(Media::id("", "file-2")),
        Content::File(File::new(None, Media::bytes("audio/x-wav", &b"abc"[..]))),
    ];
    let request = Request::new("m", [Message::new(Role::User, content.clone())]);
    assert_eq!(
        body(&responses(), &request)["input"][0]["content"],
        json!([
            { "type": "input_image", "image_url": "data:image/png;base64,YWJj" },
            { "type": "input_image", "image_url": "http://host/a.png" },
            { "type": "input_image", "file_id": "file-1" },
            { "type": "input_file", "file_data": "data:application/pdf;base64,YWJj", "filename": "a.pdf" },
            { "type": "input_file", "file_url": "http://host/a.pdf" },
            { "type": "input_file", "file_id": "file-2", "filename": "a.pdf" },
            { "type": "input_audio", "input_audio": { "data": "YWJj", "format": "wav" } },
        ])
    );
    let result = ToolResult::new("c", "f", vec![Content::text("a"), content[0].clone()]);
    let request = Request::new("m", [Message::tool_results([result])]);
    assert_eq!(body(&responses(), &request)["input"][0]["output"].as_array().unwrap().len(), 2);
    let address = OpenAi::new(Endpoint::new(OpenAi::BASE_URL).unwrap()).with_api(Api::Responses);
    assert_eq!(address.request(&request, Mode::Stream).unwrap().uri(), "https://api.openai.com/v1/responses");
}
