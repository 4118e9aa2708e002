//! Streams of chat completions that no recording has: what compatible servers do, and what goes wrong.

use llm_providers::openai::StreamEnd;
use llm_providers::{ApiErrorKind, BlockStart, Content, Error, Message, Request, Response, StopReason, StreamEvent};
use llm_providers::{Mode, Protocol};
use serde_json::{Value, json};

use crate::cuts;
use crate::openai_chat_answers::protocol;

/// A stream of these chunks, ended as it should be.
fn stream(chunks: &[Value]) -> String {
    let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events + "data: [DONE]\n\n"
}

fn delta(delta: Value) -> Value {
    json!({ "id": "1", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

fn finish(word: &str) -> Value {
    json!({ "id": "1", "model": "m", "choices": [{ "index": 0, "delta": {}, "finish_reason": word }] })
}

fn call(index: Value, id: Value, name: Value, arguments: Value) -> Value {
    delta(json!({ "tool_calls": [{ "index": index, "id": id, "type": "function",
        "function": { "name": name, "arguments": arguments } }] }))
}

/// The answer, whatever the cuts; everything before its last word is incomplete.
fn check(chunks: &[Value]) -> Response {
    let body = stream(chunks);
    let response = cuts::check_cuts(&protocol(), body.as_bytes(), "own");
    cuts::check_truncations(&protocol(), body.as_bytes(), body.find("[DONE]").unwrap() + 6, "own");
    response
}

fn calls(response: &Response) -> Vec<(&str, &str, &str)> {
    let calls = response.message.tool_calls();
    calls.map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.as_str())).collect()
}

#[test]
fn parallel_calls_interleave() {
    let none = Value::Null;
    let response = check(&[
        call(json!(0), json!("a"), json!("f"), json!("")),
        call(json!(1), json!("b"), json!("g"), json!("{")),
        call(json!(0), none.clone(), none.clone(), json!("{\"x\"")),
        call(json!(1), none.clone(), none.clone(), json!("}")),
        call(json!(0), none.clone(), none.clone(), json!(":1}")),
        finish("tool_calls"),
    ]);
    assert_eq!(calls(&response), [("a", "f", "{\"x\":1}"), ("b", "g", "{}")]);
    assert_eq!(response.stop.reason, StopReason::ToolCalls);
}

#[test]
fn calls_are_told_apart_however_the_server_numbers_them() {
    let none = Value::Null;
    let two = [("a", "f", "{}"), ("b", "f", "{}")];
    // Without indices; with one index for all; each fragment with id and name.
    for (first, second) in [(none.clone(), none.clone()), (json!(0), json!(0)), (json!(0), json!(1))] {
        let response = check(&[
            call(first.clone(), json!("a"), json!("f"), json!("{")),
            call(first, json!("a"), json!("f"), json!("}")),
            call(second.clone(), json!("b"), json!("f"), json!("{")),
            call(second, json!("b"), json!("f"), json!("}")),
            finish("tool_calls"),
        ]);
        assert_eq!(calls(&response), two);
    }
    // Without ids: whole calls one after the other, and fragments that follow.
    let response = check(&[
        call(none.clone(), none.clone(), json!("f"), json!("{\"x\":")),
        call(none.clone(), none.clone(), none.clone(), json!("1}")),
        call(none.clone(), none.clone(), json!("f"), json!({ "x": 2 })),
        finish("stop"),
    ]);
    assert_eq!(calls(&response), [("call_0", "f", "{\"x\":1}"), ("call_1", "f", "{\"x\":2}")]);
    assert_eq!(response.stop.reason, StopReason::ToolCalls);
    // The name comes late, and never.
    let response = check(&[
        call(json!(0), json!("a"), none.clone(), json!("{")),
        call(json!(0), none.clone(), json!("f"), json!("}")),
        call(json!(1), json!("b"), none.clone(), json!("{}")),
        finish("tool_calls"),
    ]);
    assert_eq!(calls(&response), [("a", "f", "{}"), ("b", "", "{}")]);
}

#[test]
fn arguments_may_be_an_object() {
    let arguments = json!({ "x": [1, 2.50, "é"], "y": null });
    let response = check(&[call(json!(0), json!("a"), json!("f"), arguments.clone()), finish("tool_calls")]);
    assert_eq!(response.message.tool_calls().next().unwrap().arguments_json().unwrap(), arguments);
    // Numbers keep every digit.
    let body = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\
                \"arguments\":{\"n\":123456789012345678901234567890}}}]},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let response = cuts::check_cuts(&protocol(), body.as_bytes(), "digits");
    assert_eq!(calls(&response), [("a", "f", "{\"n\":123456789012345678901234567890}")]);
    // What was a call before calls could be several.
    let response = check(&[
        delta(json!({ "function_call": { "name": "f", "arguments": "{" } })),
        delta(json!({ "function_call": { "arguments": "}" } })),
        finish("function_call"),
    ]);
    assert_eq!(calls(&response), [("call_0", "f", "{}")]);
    assert_eq!(response.stop.reason, StopReason::ToolCalls);
}

#[test]
fn usage_is_found_wherever_it_comes() {
    let usage = json!({ "prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": { "cached_tokens": 4 } });
    let text = delta(json!({ "content": "a" }));
    let with = |mut chunk: Value, place: &str| {
        *chunk.pointer_mut(place).unwrap() = usage.clone();
        chunk
    };
    let mut in_choice = finish("stop");
    in_choice["choices"][0]["usage"] = usage.clone();
    for chunks in [
        vec![text.clone(), finish("stop"), json!({ "choices": [], "usage": usage })],
        vec![text.clone(), finish("stop"), json!({ "usage": usage })],
        vec![with(json!({ "choices": null, "usage": 0 }), "/usage"), text.clone(), finish("stop")],
        vec![text.clone(), json!({ "choices": finish("stop")["choices"], "usage": usage })],
        vec![text.clone(), json!({ "choices": finish("stop")["choices"], "x_groq": { "usage": usage } })],
        vec![text.clone(), in_choice],
        vec![
            json!({ "choices": text["choices"], "usage": { "prompt_tokens": 5, "completion_tokens": 1 } }),
            finish("stop"),
            json!({ "choices": [], "usage": usage }),
        ],
        vec![
            text.clone(),
            json!({ "choices": finish("stop")["choices"], "timings": { "cache_n": 4, "prompt_n": 1, "predicted_n": 3 } }),
        ],
    ] {
        let counts = check(&chunks).usage;
        assert_eq!((counts.input, counts.cached_input, counts.output), (Some(5), Some(4), Some(3)), "{chunks:?}");
    }
    assert_eq!(check(&[text, finish("stop")]).usage, Default::default());
}

#[test]
fn stop_reasons_are_common_words_and_the_vendors() {
    let text = delta(json!({ "content": "a" }));
    for (word, reason) in [
        ("stop", StopReason::Stop),
        ("", StopReason::Stop),
        ("length", StopReason::Length),
        ("content_filter", StopReason::ContentFilter),
        ("tool_calls", StopReason::ToolCalls),
        ("error", StopReason::Error),
        ("out_of_luck", StopReason::Other),
    ] {
        let stop = check(&[text.clone(), finish(word)]).stop;
        assert_eq!((stop.reason, stop.raw.as_deref()), (reason, Some(word)));
    }
    let empty = json!({ "choices": [{ "delta": { "content": "a" }, "finish_reason": "" }] });
    assert_eq!(check(&[empty.clone(), empty.clone(), finish("length"), empty]).stop.reason, StopReason::Length);
    let refusal = check(&[delta(json!({ "refusal": "No." })), finish("stop")]);
    assert_eq!(refusal.stop.reason, StopReason::ContentFilter);
    assert!(matches!(refusal.message.content.as_slice(), [Content::Refusal(text)] if text.text == "No."));
}

#[test]
fn errors_in_a_stream_have_their_kind() {
    let text = format!("data: {}\n\n", delta(json!({ "content": "a" })));
    for (line, kind, code) in [
        (
            "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}",
            ApiErrorKind::Server,
            Some("server_error"),
        ),
        ("data: {\"error\":{\"message\":\"m\",\"code\":429}}", ApiErrorKind::RateLimit, Some("429")),
        (
            "data: {\"error\":{\"message\":\"m\",\"code\":\"insufficient_quota\"}}",
            ApiErrorKind::Quota,
            Some("insufficient_quota"),
        ),
        (
            "data: {\"error\":{\"message\":\"m\",\"code\":502},\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}",
            ApiErrorKind::Server,
            Some("502"),
        ),
        ("data: {\"error\":\"m\"}", ApiErrorKind::Other, None),
        ("data: {\"detail\":\"m\"}", ApiErrorKind::Other, None),
        (
            "event: error\ndata: {\"message\":\"m\",\"type\":\"overloaded_error\"}",
            ApiErrorKind::Overloaded,
            Some("overloaded_error"),
        ),
        (
            "data: {\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}",
            ApiErrorKind::InvalidRequest,
            Some("BadRequestError"),
        ),
        (
            "data: {\"object\":\"error\",\"message\":\"This model's maximum context length is 8 tokens\",\"code\":400}",
            ApiErrorKind::ContextLength,
            Some("400"),
        ),
    ] {
        let body = format!("{text}{line}\n\n");
        for place in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(place);
            let Err(Error::Api(error)) = cuts::answer(&protocol(), &[head, tail]) else { panic!("{line} at {place}") };
            assert_eq!((error.status, error.kind, error.code.as_deref()), (200, kind, code), "{line}");
            assert!(!error.message.is_empty());
        }
    }
}

#[test]
fn a_stream_without_done_is_whole_where_that_is_allowed() {
    let body = format!("data: {}\n\ndata: {}\n\n", delta(json!({ "content": "a" })), finish("stop"));
    let strict = cuts::answer(&protocol(), &[body.as_bytes()]).unwrap_err();
    assert!(
        matches!(&strict, Error::Incomplete { missing, .. } if missing.contains("StreamEnd::FinishReason")),
        "{strict}"
    );
    let lenient = protocol().with_stream_end(StreamEnd::FinishReason);
    assert_eq!(cuts::check_cuts(&lenient, body.as_bytes(), "lenient").text(), "a");
    cuts::check_truncations(&lenient, body.as_bytes(), body.trim_end().len(), "lenient");
    // What comes after the word still belongs to the answer.
    let usage = format!("{body}data: {}", json!({ "choices": [], "usage": { "prompt_tokens": 5 } }));
    assert_eq!(cuts::check_cuts(&lenient, usage.as_bytes(), "usage").usage.input, Some(5));
    let cut = &usage.as_bytes()[..usage.len() - 1];
    assert!(matches!(cuts::answer(&lenient, &[cut]), Err(Error::Incomplete { .. })));
    // An empty word says nothing, and no word at all less.
    for last in [finish(""), delta(json!({ "content": "b" }))] {
        let body = format!("data: {last}\n\n");
        assert!(matches!(cuts::answer(&lenient, &[body.as_bytes()]), Err(Error::Incomplete { .. })));
    }
    // A proxy says [DONE] when its upstream is gone.
    let body = format!("data: {}\n\ndata: [DONE]\n\n", delta(json!({ "content": "a" })));
    assert!(matches!(cuts::answer(&lenient, &[body.as_bytes()]), Err(Error::Incomplete { .. })));
}

#[test]
fn careless_streams_are_read() {
    let chunk = delta(json!({ "role": "assistant", "content": "Größe 😀" }));
    let usual = check(&[chunk.clone(), finish("stop")]);
    assert_eq!(usual.text(), "Größe 😀");
    for body in [
        format!(": hello\n\ndata: {chunk}\n\n: ping\n\ndata: {}\n\ndata: [DONE]", finish("stop")),
        format!("data:{chunk}\r\n\r\ndata:{}\r\n\r\ndata:[DONE]\r\n", finish("stop")),
        format!(
            "event: message\ndata: {chunk}\n\ndata: {{\"new\": [1]}}\n\ndata: \n\ndata: {}\n\ndata: [DONE]\n\ndata: {{\n\n",
            finish("stop")
        ),
    ] {
        assert!(cuts::check_cuts(&protocol(), body.as_bytes(), "careless") == usual, "{body}");
    }
    // Azure's first chunk has no choice, id or model.
    let azure = json!({ "id": "", "model": "", "choices": [], "prompt_filter_results": [] });
    assert!(check(&[azure, chunk, finish("stop")]) == usual);
    // Another answer to the same question is not this one.
    let other = json!({ "choices": [{ "index": 1, "delta": { "content": "no" }, "finish_reason": "length" }] });
    assert!(check(&[delta(json!({ "content": "Größe 😀" })), other, finish("stop")]) == usual);
}

#[test]
fn what_is_not_json_is_an_error_without_content() {
    for body in [
        "data: {\"choices\": secret\n\n",
        "data: <html>secret\n\n",
        "data: {\"choices\":\"secret\"}\n\n",
        "data: \u{1}\n\n",
    ] {
        let error = cuts::answer(&protocol(), &[body.as_bytes()]).unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    let error =
        cuts::answer(&protocol(), &[b"data: {\"choices\":[{\"delta\":{\"content\":\"\xFF\"}}]}\n\n"]).unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
}

#[test]
fn reasoning_comes_under_several_names() {
    for (pieces, expected) in [
        (json!([{ "reasoning_content": "a" }, { "reasoning_content": "b" }]), "ab"),
        (json!([{ "reasoning": "a" }, { "reasoning": "b" }]), "ab"),
        (json!([{ "reasoning": "a", "reasoning_content": "a" }]), "a"),
        (json!([{ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "a" }] }] }]), "a"),
    ] {
        let mut chunks: Vec<Value> = pieces.as_array().unwrap().iter().cloned().map(delta).collect();
        chunks.extend([delta(json!({ "content": "c" })), finish("stop")]);
        let response = check(&chunks);
        assert_eq!((response.message.reasoning().as_str(), response.text().as_str()), (expected, "c"));
    }
}

#[test]
fn reasoning_goes_back_where_it_came_from() {
    let sent = |response: &Response, protocol: &llm_providers::OpenAi| -> Value {
        let request = Request::new("m", [Message::user("q"), response.message.clone()]);
        let sent = protocol.request(&request, Mode::Whole).unwrap();
        serde_json::from_slice::<Value>(sent.body()).unwrap()["messages"][1].clone()
    };
    let plain =
        check(&[delta(json!({ "reasoning_content": "why" })), delta(json!({ "content": "a" })), finish("stop")]);
    assert_eq!(sent(&plain, &protocol()), json!({ "role": "assistant", "reasoning_content": "why", "content": "a" }));
    let bare = json!({ "role": "assistant", "content": "a" });
    assert_eq!(sent(&plain, &protocol().with_reasoning_sent_back(false)), bare);
    assert_eq!(sent(&plain, &protocol().with_name("another")), bare);
    let details = check(&[
        delta(
            json!({ "reasoning": "wh", "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": "wh" }] }),
        ),
        delta(
            json!({ "reasoning": "y", "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": "y" }] }),
        ),
        delta(json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "signature": "s" }] })),
        delta(json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "index": 1, "data": "e", "id": "r" }] })),
        delta(json!({ "content": "a" })),
        finish("stop"),
    ]);
    assert_eq!(
        sent(&details, &protocol())["reasoning_details"],
        json!([{ "type": "reasoning.text", "index": 0, "text": "why", "signature": "s" },
            { "type": "reasoning.encrypted", "index": 1, "data": "e", "id": "r" }])
    );
    let signed = check(&[
        delta(json!({ "tool_calls": [{ "id": "a", "function": { "name": "f", "arguments": "{}" },
            "extra_content": { "google": { "thought_signature": "s" } } }] })),
        finish("tool_calls"),
    ]);
    assert_eq!(sent(&signed, &protocol())["tool_calls"][0]["extra_content"]["google"]["thought_signature"], "s");
}

#[test]
fn log_probs_have_ids_where_servers_give_them() {
    let entry = |token: &str| json!({ "token": token, "logprob": -0.5, "bytes": [255], "top_logprobs": [{ "token": "z", "logprob": -1 }] });
    let chunk = |choice: Value| {
        let mut chunk =
            json!({ "id": "1", "choices": [{ "delta": { "content": "a" } }], "usage": { "completion_tokens": 1 } });
        chunk["choices"][0].as_object_mut().unwrap().extend(choice.as_object().unwrap().clone());
        chunk
    };
    let mut llamacpp = entry("a");
    llamacpp["id"] = json!(7);
    for (choice, id) in [
        (json!({ "logprobs": { "content": [llamacpp] } }), Some(7)),
        (json!({ "logprobs": { "content": [entry("a")] }, "token_ids": [7] }), Some(7)),
        (json!({ "logprobs": { "content": [entry("token_id:7")] } }), Some(7)),
        (json!({ "logprobs": { "content": null, "refusal": [entry("a")] } }), None),
    ] {
        let log_probs = check(&[chunk(choice), finish("stop")]).log_probs.unwrap();
        let [token] = log_probs.tokens.as_slice() else { panic!("one entry") };
        assert_eq!((token.id, token.log_prob, token.bytes.as_deref()), (id, -0.5, Some(&[255][..])));
        assert_eq!((token.top.len(), log_probs.aligned), (1, id.is_some()));
    }
    let zero = json!({ "logprobs": { "content": [{ "token": "a", "logprob": null }] } });
    assert_eq!(check(&[chunk(zero), finish("stop")]).log_probs.unwrap().tokens[0].log_prob, f64::NEG_INFINITY);
}

/// The same content at once and in a stream is the same answer.
#[test]
fn streams_and_whole_answers_agree() {
    let message = json!({ "role": "assistant", "content": "text", "reasoning": "why", "refusal": null, "annotations": [{ "url": "u" }],
        "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": "why", "signature": "s" }],
        "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{\"x\":1}" } },
            { "id": "b", "type": "function", "function": { "name": "g", "arguments": "" } }] });
    let log_probs = json!({ "content": [{ "token": "text", "logprob": -0.25, "bytes": null, "top_logprobs": [] }] });
    let usage = json!({ "prompt_tokens": 5, "completion_tokens": 3 });
    let whole = json!({ "id": "1", "model": "m", "system_fingerprint": "fp", "service_tier": "default", "usage": usage,
        "timings": { "prompt_n": 1 },
        "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": log_probs }] });
    let whole = protocol().response(&http::HeaderMap::new(), whole.to_string().as_bytes()).unwrap();
    let mut last = finish("tool_calls");
    last["system_fingerprint"] = json!("fp");
    last["service_tier"] = json!("default");
    let mut first = delta(json!({ "content": "te", "annotations": [{ "url": "u" }] }));
    first["choices"][0]["logprobs"] = log_probs;
    let streamed = check(&[
        delta(
            json!({ "reasoning": "why", "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": "why" }] }),
        ),
        delta(json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "signature": "s" }] })),
        first,
        delta(json!({ "content": "xt" })),
        call(json!(0), json!("a"), json!("f"), json!("{\"x\"")),
        call(json!(1), json!("b"), json!("g"), json!("")),
        call(json!(0), Value::Null, Value::Null, json!(":1}")),
        last,
        json!({ "choices": [], "usage": usage, "timings": { "prompt_n": 1 } }),
    ]);
    assert!(streamed == whole, "{streamed:?} {whole:?}");
    assert_eq!(streamed.metadata["annotations"], json!([{ "url": "u" }]));
}

#[test]
fn comments_are_pings_and_blocks_start_and_end() {
    let mut decoder = protocol().decoder();
    let mut events = std::collections::VecDeque::new();
    let body = format!(": x\n\n{}", stream(&[delta(json!({ "content": "a" })), finish("stop")]));
    decoder.push(body.as_bytes(), &mut events).unwrap();
    decoder.finish(&mut events).unwrap();
    let events: Vec<_> = events.into_iter().collect();
    assert!(
        matches!(
            events.as_slice(),
            [
                StreamEvent::Ping,
                StreamEvent::Start { .. },
                StreamEvent::BlockStart { index: 0, block: BlockStart::Text },
                StreamEvent::BlockDelta { index: 0, .. },
                StreamEvent::BlockEnd { index: 0, opaque: None },
                StreamEvent::End(_),
            ]
        ),
        "{events:?}"
    );
}
