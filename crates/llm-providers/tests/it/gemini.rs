//! Gemini's protocol on recorded traffic and on pieces of our own.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use llm_providers::gemini::Gemini;
use llm_providers::{
    ApiErrorKind, Content, Effort, EmbeddingRequest, Endpoint, Error, File, FunctionTool, JsonSchema, Media,
    MediaSource, Message, Mode, Opaque, OutputFormat, Protocol, Reasoning, ReasoningOptions, Request, Response, Role,
    StopReason, Text, Tool, ToolCall, ToolChoice, ToolResult,
};
use serde_json::{Value, json};

use crate::cuts::{answer, check_cuts, check_truncations};
use crate::differences::{Differences, Known};
use crate::recordings::{self, Recording};

fn gemini() -> Gemini {
    Gemini::new(Endpoint::new(Gemini::BASE_URL).unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn opaque(data: Value) -> Option<Opaque> {
    Some(Opaque::new("gcp.gemini", data))
}

/// A block of ours in the vendor's words.
fn said(content: &Content) -> Value {
    let (mut part, opaque) = match content {
        Content::Text(said) => (json!({"text": said.text}), &said.opaque),
        Content::Reasoning(reasoning) => (json!({"text": reasoning.text, "thought": true}), &reasoning.opaque),
        Content::ToolCall(call) => {
            let mut function = json!({"name": call.name, "args": call.arguments_json().unwrap()});
            if !call.id.starts_with("gemini_call_") {
                function["id"] = call.id.as_str().into();
            }
            (json!({"functionCall": function}), &call.opaque)
        }
        Content::Image(media) => {
            let MediaSource::Bytes(bytes) = &media.source else { panic!() };
            (json!({"inlineData": {"mimeType": media.media_type, "size": bytes.len()}}), &None)
        }
        Content::Other(opaque) => (opaque.of("gcp.gemini").unwrap().clone(), &None),
        other => panic!("{other:?}"),
    };
    if let Some(opaque) = opaque {
        part["thoughtSignature"] = opaque.of("gcp.gemini").unwrap()["thoughtSignature"].clone();
    }
    part
}

fn pieces(stream: &str) -> Vec<Value> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// All pieces as the answer that comes at once: their parts one after the other, else the last piece.
fn gather(pieces: &[Value]) -> Value {
    let parts = pieces.iter().filter_map(|piece| piece["candidates"][0]["content"]["parts"].as_array());
    let parts: Vec<Value> = parts.flatten().cloned().collect();
    let mut whole = pieces.last().unwrap().clone();
    whole["candidates"][0]["content"] = json!({"role": "model", "parts": parts});
    whole
}

/// The blocks that parts make: neighbours of a kind join until one is signed.
fn blocks(parts: &Value) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    for part in parts.as_array().into_iter().flatten() {
        let mut part = part.clone();
        if let Some(data) = part["inlineData"]["data"].as_str() {
            let padding = data.bytes().rev().take_while(|byte| *byte == b'=').count();
            part = json!({"inlineData": {"mimeType": part["inlineData"]["mimeType"], "size": data.len() / 4 * 3 - padding}});
        }
        if part.get("text").is_some_and(|text| text == "") && part.get("thoughtSignature").is_none() {
            continue;
        }
        let joins = |block: &&mut Value| {
            let both = block.get("text").is_some() && part.get("text").is_some();
            both && block.get("thought") == part.get("thought") && block.get("thoughtSignature").is_none()
        };
        match blocks.last_mut().filter(joins) {
            Some(block) => {
                block["text"] = (text(&block["text"]) + &text(&part["text"])).into();
                if let Some(signature) = part.get("thoughtSignature") {
                    block["thoughtSignature"] = signature.clone();
                }
            }
            None => blocks.push(part),
        }
    }
    for block in &mut blocks {
        if block["functionCall"].is_object() && block["functionCall"].get("args").is_none() {
            block["functionCall"]["args"] = json!({});
        }
        block.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    blocks
}

fn check_response(response: &Response, whole: &Value, name: &str) {
    let candidate = &whole["candidates"][0];
    let expected = blocks(&candidate["content"]["parts"]);
    assert_eq!(response.message.content.iter().map(said).collect::<Vec<_>>(), expected, "{name}");
    assert_eq!(response.id, text(&whole["responseId"]), "{name}");
    assert_eq!(response.model, text(&whole["modelVersion"]), "{name}");
    let usage = &whole["usageMetadata"];
    assert_eq!(response.usage.total(), usage["totalTokenCount"].as_u64().unwrap(), "{name}");
    let count = |key: &str| usage[key].as_u64();
    let output = count("candidatesTokenCount").unwrap_or(0) + count("thoughtsTokenCount").unwrap_or(0);
    assert_eq!(response.usage.output, Some(output), "{name}");
    assert_eq!(response.usage.reasoning, count("thoughtsTokenCount"), "{name}");
    assert_eq!(response.usage.cached_input, count("cachedContentTokenCount"), "{name}");
    assert_eq!(response.usage.raw.as_ref(), Some(usage), "{name}");
    assert_eq!(response.stop.raw.as_deref(), candidate["finishReason"].as_str(), "{name}");
    let has_call = expected.iter().any(|block| block["functionCall"].is_object());
    let reason = match (candidate["finishReason"].as_str().unwrap(), has_call) {
        ("STOP", true) => StopReason::ToolCalls,
        ("STOP", false) => StopReason::Stop,
        ("MAX_TOKENS", _) => StopReason::Length,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(response.stop.reason, reason, "{name}");
    assert_eq!(response.metadata.get("finishMessage"), candidate.get("finishMessage"), "{name}");
    let mut ids: Vec<_> = response.message.tool_calls().map(|call| call.id.as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), response.message.tool_calls().count(), "{name}");
}

#[test]
fn recorded_answers_are_read_whatever_the_cuts() {
    let recordings = recordings::of("gemini");
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut kinds = BTreeMap::<String, usize>::new();
    for Recording { name, path, status, content_type, answered, .. } in &recordings {
        let body = answered.as_bytes();
        let what = match (path.rsplit_once(':').map_or("", |(_, method)| method), status) {
            (_, 400..) => {
                check_error(*status, answered, name);
                "error"
            }
            ("streamGenerateContent", _) => {
                assert!(content_type.starts_with("text/event-stream"));
                let whole = gather(&pieces(answered));
                let response = check_cuts(&gemini(), body, name);
                check_truncations(&gemini(), body, answered.trim_end().len(), name);
                check_response(&response, &whole, name);
                let at_once = gemini().response(&HeaderMap::new(), whole.to_string().as_bytes()).unwrap();
                assert_eq!(response.message, at_once.message, "{name}");
                assert_eq!((&response.stop, &response.usage), (&at_once.stop, &at_once.usage), "{name}");
                count_kinds(&response, &mut kinds);
                "stream"
            }
            ("generateContent", _) => {
                let response = gemini().response(&HeaderMap::new(), body).unwrap();
                check_response(&response, &serde_json::from_str(answered).unwrap(), name);
                count_kinds(&response, &mut kinds);
                "whole"
            }
            ("batchEmbedContents", _) => {
                check_embeddings(answered);
                "embeddings"
            }
            _ if path == "/v1beta/models" => {
                assert_eq!(gemini().availability(body).unwrap().models.len(), 52);
                "models"
            }
            _ if path == "/v1beta/interactions" => "interactions, another protocol",
            _ if path.starts_with("/v1beta/cachedContents") => "cachedContents, not of a conversation",
            _ => panic!("{name}: {path}"),
        };
        *counts.entry(what).or_default() += 1;
    }
    if !recordings.is_empty() {
        let expected = [
            ("cachedContents, not of a conversation", 27),
            ("embeddings", 8),
            ("error", 4),
            ("interactions, another protocol", 13),
            ("models", 1),
            ("stream", 64),
            ("whole", 132),
        ];
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
        let expected = [
            ("codeExecutionResult", 25),
            ("executableCode", 23),
            ("executableCode thoughtSignature", 2),
            ("functionCall", 8),
            ("functionCall thoughtSignature", 67),
            ("inlineData", 1),
            ("text", 95),
            ("text thought", 23),
            ("text thoughtSignature", 35),
        ];
        assert_eq!(kinds.iter().map(|(kind, n)| (kind.as_str(), *n)).collect::<Vec<_>>(), expected);
    }
}

fn count_kinds(response: &Response, kinds: &mut BTreeMap<String, usize>) {
    for part in response.message.content.iter().map(said) {
        let keys: Vec<&str> = part.as_object().unwrap().keys().map(String::as_str).collect();
        *kinds.entry(keys.join(" ")).or_default() += 1;
    }
}

fn check_error(status: u16, answered: &str, name: &str) {
    let kind = match status {
        // Both are refused keys: the first says so in its details.
        400 => ApiErrorKind::Authentication,
        403 => ApiErrorKind::PermissionDenied,
        404 => ApiErrorKind::NotFound,
        other => panic!("{name}: {other}"),
    };
    let said: Value = serde_json::from_str(answered).unwrap();
    for body in [answered.to_owned(), format!("[{answered}]")] {
        let error = gemini().error(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!((error.kind, error.status, error.is_retryable()), (kind, status, false), "{name}");
        assert_eq!(error.message, text(&said["error"]["message"]), "{name}");
        assert_eq!(error.code.as_deref(), said["error"]["status"].as_str(), "{name}");
    }
}

fn check_embeddings(answered: &str) {
    let said: Value = serde_json::from_str(answered).unwrap();
    let vectors = said["embeddings"].as_array().unwrap();
    let read = gemini().embeddings(&EmbeddingRequest::new("e", ["a"]), answered.as_bytes()).unwrap();
    assert_eq!(read.embeddings.len(), vectors.len());
    for (read, said) in read.embeddings.iter().zip(vectors) {
        let said = said["values"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32);
        assert_eq!(*read, said.collect::<Vec<_>>());
    }
}

/// A recorded part as our block.
fn read_part(part: &Value) -> Content {
    let signed = part.get("thoughtSignature").map(|signature| json!({"thoughtSignature": signature}));
    let opaque = signed.and_then(opaque);
    if let Some(call) = part.get("functionCall") {
        let mut call = ToolCall::new(text(&call["id"]), text(&call["name"]), call["args"].to_string());
        call.opaque = opaque;
        return Content::ToolCall(call);
    }
    if let Some(result) = part.get("functionResponse") {
        // A result that is no text is an object that holds it.
        let said = result["response"]["result"].as_str().map_or_else(|| result["response"].to_string(), str::to_owned);
        return Content::ToolResult(ToolResult::new("", text(&result["name"]), vec![Content::text(said)]));
    }
    if let Some(data) = part.get("inlineData") {
        let media: Media =
            serde_json::from_value(json!({"media_type": data["mimeType"], "source": {"bytes": data["data"]}})).unwrap();
        return Content::File(File::new(None, media));
    }
    if part["thought"] == true {
        let mut reasoning = Reasoning::new(text(&part["text"]));
        reasoning.opaque = opaque;
        return Content::Reasoning(reasoning);
    }
    let mut said = Text::new(text(&part["text"]));
    said.opaque = opaque;
    Content::Text(said)
}

/// A recorded body as our request.
fn read_request(path: &str, body: &Value) -> Request {
    let mut messages = Vec::new();
    for part in body["systemInstruction"]["parts"].as_array().into_iter().flatten() {
        messages.push(Message::system(text(&part["text"])));
    }
    for turn in body["contents"].as_array().unwrap() {
        let content: Vec<Content> = turn["parts"].as_array().unwrap().iter().map(read_part).collect();
        let role = match turn["role"].as_str().unwrap() {
            "model" => Role::Assistant,
            _ if matches!(content[0], Content::ToolResult(_)) => Role::Tool,
            _ => Role::User,
        };
        messages.push(Message::new(role, content));
    }
    let model = path.rsplit_once('/').unwrap().1.split(':').next().unwrap();
    let mut request = Request::new(model, messages);
    for entry in body["tools"].as_array().into_iter().flatten() {
        if entry["codeExecution"].is_object() {
            request.tools.push(Tool::Vendor(opaque(entry.clone()).unwrap()));
        }
        for function in entry["functionDeclarations"].as_array().into_iter().flatten() {
            let parameters = function["parameters"].clone();
            request
                .tools
                .push(FunctionTool::new(text(&function["name"]), text(&function["description"]), parameters).into());
        }
    }
    request.tool_choice = match body["toolConfig"]["functionCallingConfig"]["mode"].as_str() {
        None => None,
        Some("ANY") => Some(ToolChoice::Required),
        Some("NONE") => Some(ToolChoice::None),
        Some(other) => panic!("{other}"),
    };
    let config = &body["generationConfig"];
    request.max_tokens = config["maxOutputTokens"].as_u64().map(|n| n.try_into().unwrap());
    request.temperature = config["temperature"].as_f64();
    if let Some(schema) = config.get("responseJsonSchema") {
        request.output = OutputFormat::JsonSchema(JsonSchema::new("answer", schema.clone()));
    }
    request.reasoning = config["thinkingConfig"].as_object().map(|thinking| {
        let mut options = ReasoningOptions::default();
        options.budget_tokens = thinking.get("thinkingBudget").map(|n| n.as_u64().unwrap().try_into().unwrap());
        options.visible = thinking.get("includeThoughts").map(|visible| visible.as_bool().unwrap());
        options.effort = match thinking.get("thinkingLevel").map(text).as_deref() {
            None => None,
            Some("low") => Some(Effort::Low),
            Some("medium") => Some(Effort::Medium),
            Some(other) => panic!("{other}"),
        };
        options
    });
    let ours = ["candidateCount", "imageConfig", "responseModalities"];
    let own: serde_json::Map<_, _> =
        ours.iter().filter_map(|key| Some(((*key).to_owned(), config.get(key)?.clone()))).collect();
    if !own.is_empty() {
        request = request.with_extra("generationConfig", own);
    }
    match body.get("cachedContent") {
        Some(name) => request.with_extra("cachedContent", name.clone()),
        None => request,
    }
}

const KNOWN: [Known; 11] = [
    ("- .contents[].parts[].thought", 410, "false is not said"),
    ("- .systemInstruction.parts[].thought", 151, "false is not said"),
    ("- .systemInstruction.role", 151, "instructions have no role in the API's reference"),
    ("- .systemInstruction", 46, "null there, no key with us"),
    ("- .generationConfig", 28, "null or empty there, no key with us"),
    ("- .safetySettings", 197, "null there, no key with us"),
    ("- .toolConfig", 190, "null there, no key with us"),
    ("- .tools[].codeExecution", 132, "null there, no key with us"),
    ("- .generationConfig.responseJsonSchema.$schema", 2, "no keyword that the reference lists"),
    ("- .requests[].output_dimensionality", 13, "the same in the reference's spelling is the next line"),
    ("+ .requests[].outputDimensionality", 13, "the same as the line before"),
];

#[test]
fn recorded_requests_are_what_we_send() {
    let recordings = recordings::of("gemini");
    let mut differences = Differences::default();
    let (mut conversations, mut embeddings) = (0, 0);
    for recording in &recordings {
        let Some((_, method)) = recording.path.rsplit_once(':') else { continue };
        let asked = &recording.asked;
        let sent = if method == "batchEmbedContents" {
            embeddings += 1;
            let texts =
                asked["requests"].as_array().unwrap().iter().map(|one| text(&one["content"]["parts"][0]["text"]));
            let model = text(&asked["requests"][0]["model"]);
            let mut request = EmbeddingRequest::new(model.strip_prefix("models/").unwrap(), texts);
            request.dimensions = asked["requests"][0]["output_dimensionality"].as_u64().map(|n| n.try_into().unwrap());
            gemini().embedding_request(&request)
        } else {
            conversations += 1;
            let mode = if method == "generateContent" { Mode::Whole } else { Mode::Stream };
            gemini().request(&read_request(&recording.path, asked), mode)
        };
        let sent = sent.unwrap();
        assert_eq!(sent.uri().path(), recording.path);
        differences.add(&recording.name, asked, &serde_json::from_slice(sent.body()).unwrap());
    }
    if !recordings.is_empty() {
        assert_eq!((conversations, embeddings), (197, 8));
        differences.check(&KNOWN);
    }
}

fn stream(pieces: &[Value]) -> String {
    pieces.iter().map(|piece| format!("data: {piece}\r\n\r\n")).collect()
}

fn piece(parts: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}], "modelVersion": "g", "responseId": "r-1"})
}

fn last(parts: Value, reason: &str) -> Value {
    let mut piece = piece(parts);
    piece["candidates"][0]["finishReason"] = reason.into();
    piece["usageMetadata"] = json!({"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7});
    piece
}

#[test]
fn parallel_calls_with_and_without_ids_keep_their_signatures() {
    let body = stream(&[
        piece(json!([{"text": "Hm.", "thought": true}])),
        piece(
            json!([{"functionCall": {"name": "f", "args": {"x": 1.0}}, "thoughtSignature": "s1"}, {"functionCall": {"name": "f"}}]),
        ),
        last(
            json!([{"functionCall": {"id": "own", "name": "g", "args": {}}}, {"text": "", "thoughtSignature": "s2"}]),
            "STOP",
        ),
    ]);
    let response = check_cuts(&gemini(), body.as_bytes(), "calls");
    check_truncations(&gemini(), body.as_bytes(), body.trim_end().len(), "calls");
    assert_eq!(response.stop.reason, StopReason::ToolCalls);
    let calls: Vec<_> = response.message.tool_calls().map(|c| (c.id.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("gemini_call_r-1_0", "{\"x\":1.0}"), ("gemini_call_r-1_1", "{}"), ("own", "{}")]);
    let calls: Vec<ToolCall> = response.message.tool_calls().cloned().collect();
    let request = Request::new(
        "g",
        [
            Message::user("x"),
            response.message,
            Message::tool_results([ToolResult::text(&calls[0], "1"), ToolResult::text(&calls[1], "{\"a\": 2}")]),
            Message::tool_results([ToolResult::text(&calls[2], "broken").failed()]),
            Message::user("go on"),
        ],
    );
    assert_eq!(
        sent(&request)["contents"],
        json!([
            {"role": "user", "parts": [{"text": "x"}]},
            {"role": "model", "parts": [
                {"text": "Hm.", "thought": true},
                {"functionCall": {"name": "f", "args": {"x": 1.0}}, "thoughtSignature": "s1"},
                {"functionCall": {"name": "f", "args": {}}},
                {"functionCall": {"id": "own", "name": "g", "args": {}}},
                {"text": "", "thoughtSignature": "s2"},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "f", "response": {"result": "1"}}},
                {"functionResponse": {"name": "f", "response": {"a": 2}}},
                {"functionResponse": {"id": "own", "name": "g", "response": {"error": "broken"}}},
            ]},
            {"role": "user", "parts": [{"text": "go on"}]},
        ])
    );
}

fn sent(request: &Request) -> Value {
    serde_json::from_slice(gemini().request(request, Mode::Whole).unwrap().body()).unwrap()
}

#[test]
fn a_stop_before_the_output_of_code_is_not_the_end() {
    let code = json!([{"executableCode": {"language": "PYTHON", "code": "1"}}]);
    let result = json!([{"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}]);
    let body = stream(&[last(code, "STOP"), piece(result), last(json!([{"text": "One."}]), "STOP")]);
    check_truncations(&gemini(), body.as_bytes(), body.trim_end().len(), "code");
    let response = check_cuts(&gemini(), body.as_bytes(), "code");
    assert_eq!((response.message.content.len(), response.text().as_str()), (3, "One."));
}

#[test]
fn blocked_prompts_and_stopped_answers_say_so() {
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}, "modelVersion": "g"});
    for response in [
        gemini().response(&HeaderMap::new(), blocked.to_string().as_bytes()).unwrap(),
        check_cuts(&gemini(), stream(&[blocked]).as_bytes(), "blocked"),
    ] {
        assert_eq!((response.stop.reason, response.stop.raw.as_deref()), (StopReason::ContentFilter, Some("SAFETY")));
        assert!(response.message.content.is_empty());
        assert_eq!(response.usage.input, Some(4));
    }
    for (reason, expected) in [
        ("SAFETY", StopReason::ContentFilter),
        ("IMAGE_SAFETY", StopReason::ContentFilter),
        ("SPII", StopReason::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", StopReason::Error),
        ("MAX_TOKENS", StopReason::Length),
        ("OF_TOMORROW", StopReason::Other),
    ] {
        let answer = last(json!([]), reason).to_string();
        let stop = gemini().response(&HeaderMap::new(), answer.as_bytes()).unwrap().stop;
        assert_eq!((stop.reason, stop.raw.as_deref()), (expected, Some(reason)));
    }
    let nothing = gemini().response(&HeaderMap::new(), b"{\"usageMetadata\": {}}");
    assert!(matches!(nothing, Err(Error::Incomplete { .. })));
}

#[test]
fn log_probs_are_typed_and_aligned() {
    let mut answer = last(json!([{"text": "ab"}]), "STOP");
    answer["candidates"][0]["logprobsResult"] = json!({
        "chosenCandidates": [
            {"token": "a", "tokenId": 7, "logProbability": -0.25},
            {"token": "b", "tokenId": 0, "logProbability": 0},
        ],
        "topCandidates": [
            {"candidates": [{"token": "a", "tokenId": 7, "logProbability": -0.25}, {"token": "c", "tokenId": 9, "logProbability": -2.5}]},
            {"candidates": [{"token": "b", "tokenId": 0, "logProbability": 0}]},
        ],
    });
    let log_probs = check_cuts(&gemini(), stream(&[answer.clone()]).as_bytes(), "log-probs").log_probs.unwrap();
    assert!(log_probs.aligned, "two tokens, two entries, with ids");
    let read: Vec<_> = log_probs.tokens.iter().map(|t| (t.token.as_str(), t.id, t.log_prob, t.top.len())).collect();
    assert_eq!(read, [("a", Some(7), -0.25, 2), ("b", Some(0), 0.0, 1)]);
    answer["usageMetadata"]["thoughtsTokenCount"] = 3.into();
    let whole = gemini().response(&HeaderMap::new(), answer.to_string().as_bytes()).unwrap();
    assert!(!whole.log_probs.unwrap().aligned, "thoughts are tokens of the answer without an entry");
    let request = Request::new("g", [Message::user("x")]).with_log_probs(2);
    assert_eq!(sent(&request)["generationConfig"], json!({"responseLogprobs": true, "logprobs": 2}));
}

#[test]
fn errors_say_when_to_try_again_and_when_not_to() {
    let failure = |status: &str, code: u16, message: &str, details: Value| json!({"error": {"code": code, "message": message, "status": status, "details": details}});
    let retry = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.5s"});
    let quota = |id: &str| json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": "m", "quotaId": id}]});
    let minute = json!([quota("GenerateRequestsPerMinutePerProjectPerModel"), retry]);
    let day = json!([quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), retry]);
    for (body, kind, retryable, delay) in [
        (failure("RESOURCE_EXHAUSTED", 429, "slow", minute), ApiErrorKind::RateLimit, true, Some(38.5)),
        (failure("RESOURCE_EXHAUSTED", 429, "quota", day), ApiErrorKind::Quota, false, Some(38.5)),
        (failure("UNAVAILABLE", 503, "busy", json!(null)), ApiErrorKind::Overloaded, true, None),
        (failure("INTERNAL", 500, "oh", json!([1, {"retryDelay": "soon"}])), ApiErrorKind::Server, true, None),
        (failure("DEADLINE_EXCEEDED", 504, "late", json!([])), ApiErrorKind::Timeout, true, None),
        (
            failure("INVALID_ARGUMENT", 400, "The input token count (9) exceeds", json!([])),
            ApiErrorKind::ContextLength,
            false,
            None,
        ),
        (failure("INVALID_ARGUMENT", 400, "no", json!([])), ApiErrorKind::InvalidRequest, false, None),
        (failure("", 503, "?", json!([])), ApiErrorKind::Overloaded, true, None),
    ] {
        let status = body["error"]["code"].as_u64().unwrap() as u16;
        let error = gemini().error(StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes());
        assert_eq!((error.kind, error.is_retryable()), (kind, retryable), "{body}");
        assert_eq!(error.retry_after, delay.map(Duration::from_secs_f64), "{body}");
        let stream = stream(&[piece(json!([{"text": "Hel"}])), body.clone()]);
        let Err(Error::Api(error)) = answer(&gemini(), &[stream.as_bytes()]) else { panic!("{body}") };
        assert_eq!((error.status, error.kind, error.is_retryable()), (200, kind, retryable), "{body}");
    }
}

#[test]
fn pictures_come_whole_and_their_signatures_go_back() {
    let body = stream(&[last(
        json!([
            {"text": "Look:"},
            {"inlineData": {"mimeType": "image/png", "data": "cG5n"}, "thoughtSignature": "s"},
            {"inlineData": {"mimeType": "audio/wav", "data": "d2F2"}},
        ]),
        "STOP",
    )]);
    let response = check_cuts(&gemini(), body.as_bytes(), "pictures");
    assert!(
        matches!(&response.message.content[1], Content::Image(media) if media.source == MediaSource::Bytes("png".into()))
    );
    let sent = sent(&Request::new("g", [response.message]));
    assert_eq!(
        sent["contents"][0]["parts"],
        json!([
            {"text": "Look:"},
            {"inlineData": {"mimeType": "image/png", "data": "cG5n"}, "thoughtSignature": "s"},
            {"inlineData": {"mimeType": "audio/wav", "data": "d2F2"}},
        ])
    );
    let wrong = last(json!([{"inlineData": {"mimeType": "image/png", "data": "?"}}]), "STOP").to_string();
    assert!(matches!(gemini().response(&HeaderMap::new(), wrong.as_bytes()), Err(Error::Decode { .. })));
}

#[test]
fn settings_are_sent() {
    let mut request =
        Request::new("gemini-x", [Message::system("Brief."), Message::user("x"), Message::system("Kind.")]);
    request = request.with_max_tokens(9).with_seed(3).with_temperature(0.5).with_output(OutputFormat::JsonObject);
    request.reasoning = Some(ReasoningOptions::effort(Effort::Max).visible(true));
    request.tool_choice = Some(ToolChoice::Function("f".to_owned()));
    (request.top_k, request.top_p, request.stop) = (Some(3), Some(0.5), vec!["END".to_owned()]);
    (request.presence_penalty, request.frequency_penalty) = (Some(1.0), Some(-1.0));
    let open = json!({"type": "object", "properties": {"x": {"type": "string"}}});
    let beyond = json!({"type": "object", "properties": {"x": {"type": ["string", "null"]}}, "$schema": "s"});
    request.tools = vec![
        FunctionTool::new("f", "d", open.clone()).into(),
        FunctionTool::new("g", "d", beyond).into(),
        FunctionTool::new("h", "d", json!({})).into(),
        Tool::Vendor(opaque(json!({"googleSearch": {}})).unwrap()),
    ];
    assert_eq!(
        sent(&request),
        json!({
            "systemInstruction": {"parts": [{"text": "Brief."}, {"text": "Kind."}]},
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "tools": [
                {"functionDeclarations": [
                    {"name": "f", "description": "d", "parameters": open},
                    {"name": "g", "description": "d", "parametersJsonSchema": {
                        "type": "object", "properties": {"x": {"type": ["string", "null"]}},
                    }},
                    {"name": "h", "description": "d"},
                ]},
                {"googleSearch": {}},
            ],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {
                "temperature": 0.5, "topP": 0.5, "topK": 3, "maxOutputTokens": 9, "stopSequences": ["END"], "seed": 3,
                "presencePenalty": 1.0, "frequencyPenalty": -1.0, "responseMimeType": "application/json",
                "thinkingConfig": {"includeThoughts": true, "thinkingLevel": "high"},
            },
        })
    );
    request.reasoning = Some(ReasoningOptions::effort(Effort::None));
    assert_eq!(sent(&request)["generationConfig"]["thinkingConfig"], json!({"thinkingBudget": 0}));

    let endpoint = Endpoint::new("http://gateway/g").unwrap().with_key(Some("key".into()));
    let gemini = Gemini::new(endpoint).with_version("v1");
    let asked = gemini.request(&request, Mode::Stream).unwrap();
    assert_eq!(asked.uri(), "http://gateway/g/v1/models/gemini-x:streamGenerateContent?alt=sse");
    assert_eq!(asked.headers()["x-goog-api-key"], "key");
    request.model = "tunedModels/mine".to_owned();
    assert_eq!(gemini.request(&request, Mode::Whole).unwrap().uri().path(), "/g/v1/tunedModels/mine:generateContent");
    for model in ["", "a?key=1", "../files/x", "a b", "a#b", "a%2f"] {
        request.model = model.to_owned();
        assert!(matches!(gemini.request(&request, Mode::Whole), Err(Error::InvalidRequest { .. })), "{model}");
    }
}

#[test]
fn an_array_of_pieces_is_read() {
    let array = json!([piece(json!([{"text": "Hel"}])), last(json!([{"text": "lo"}]), "STOP")]).to_string();
    let response = gemini().response(&HeaderMap::new(), array.as_bytes()).unwrap();
    assert_eq!((response.text().as_str(), response.message.content.len()), ("Hello", 1));
}
