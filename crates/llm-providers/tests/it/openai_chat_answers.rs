//! Recorded chat completions of OpenAI, llama.cpp and OpenRouter, against a reading of their JSON that shares nothing with the decoder.

use http::HeaderMap;
use llm_providers::{Content, Endpoint, OpenAi, Protocol, Response, TokenLogProb};
use serde_json::Value;

use crate::cuts;
use crate::recordings::{self, Recording};

pub(crate) fn protocol() -> OpenAi {
    OpenAi::new(Endpoint::new("http://127.0.0.1:1/v1").unwrap())
}

/// What an answer says, as plain values.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) reasoning: String,
    pub(crate) text: String,
    pub(crate) refusal: String,
    /// Id, name and arguments.
    pub(crate) calls: Vec<[String; 3]>,
    pub(crate) stop: String,
    /// Input, cached, output, reasoning.
    pub(crate) usage: [Option<u64>; 4],
    pub(crate) log_probs: Vec<(String, f64, Vec<u8>, usize)>,
}

impl Said {
    pub(crate) fn of(response: &Response) -> Self {
        let refusals = response.message.content.iter().filter_map(|content| match content {
            Content::Refusal(text) => Some(text.text.as_str()),
            _ => None,
        });
        let calls = response.message.tool_calls();
        let tokens = response.log_probs.iter().flat_map(|log_probs| &log_probs.tokens);
        let entry = |token: &TokenLogProb| {
            (token.token.clone(), token.log_prob, token.bytes.clone().unwrap_or_default(), token.top.len())
        };
        let usage = &response.usage;
        Self {
            id: response.id.clone(),
            model: response.model.clone(),
            reasoning: response.message.reasoning(),
            text: response.text(),
            refusal: refusals.collect(),
            calls: calls.map(|call| [call.id.clone(), call.name.clone(), call.arguments.clone()]).collect(),
            stop: format!("{:?}", response.stop.reason),
            usage: [usage.input, usage.cached_input, usage.output, usage.reasoning],
            log_probs: tokens.map(entry).collect(),
        }
    }
}

/// The JSON of every event of a stream, or the one of a whole answer.
pub(crate) fn values(body: &str) -> Vec<Value> {
    if body.starts_with('{') {
        return vec![serde_json::from_str(body).unwrap()];
    }
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn log_prob(entry: &Value) -> (String, f64, Vec<u8>, usize) {
    let bytes = list(&entry["bytes"]).iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
    (text(&entry["token"]).to_owned(), entry["logprob"].as_f64().unwrap(), bytes, list(&entry["top_logprobs"]).len())
}

fn read(body: &str) -> Said {
    let values = values(body);
    let mut said =
        Said { id: text(&values[0]["id"]).to_owned(), model: text(&values[0]["model"]).to_owned(), ..Said::default() };
    let mut finish = "";
    for value in &values {
        let first = list(&value["choices"]).iter().find(|choice| choice["index"] == 0);
        if let Some(choice) = first {
            let is_whole = choice.get("message").is_some();
            let message = if is_whole { &choice["message"] } else { &choice["delta"] };
            for key in ["reasoning_content", "reasoning"] {
                said.reasoning += text(&message[key]);
            }
            said.text += text(&message["content"]);
            said.refusal += text(&message["refusal"]);
            for (place, call) in list(&message["tool_calls"]).iter().enumerate() {
                let index = if is_whole { place } else { call["index"].as_u64().unwrap() as usize };
                said.calls.resize_with(said.calls.len().max(index + 1), Default::default);
                for (slot, key) in said.calls[index].iter_mut().zip(["/id", "/function/name", "/function/arguments"]) {
                    *slot += call.pointer(key).map_or("", text);
                }
            }
            for key in ["content", "refusal"] {
                said.log_probs.extend(list(&choice["logprobs"][key]).iter().map(log_prob));
            }
            if choice["finish_reason"].is_string() {
                finish = text(&choice["finish_reason"]);
            }
        }
        if value["usage"].is_object() {
            let paths = [
                "/usage/prompt_tokens",
                "/usage/prompt_tokens_details/cached_tokens",
                "/usage/completion_tokens",
                "/usage/completion_tokens_details/reasoning_tokens",
            ];
            said.usage = paths.map(|path| value.pointer(path).and_then(Value::as_u64));
        }
    }
    said.stop = match finish {
        "stop" if !said.calls.is_empty() => "ToolCalls",
        "stop" if !said.refusal.is_empty() => "ContentFilter",
        "stop" => "Stop",
        "length" => "Length",
        "tool_calls" => "ToolCalls",
        "content_filter" => "ContentFilter",
        other => panic!("finish_reason {other:?}"),
    }
    .to_owned();
    said
}

fn is_chat(recording: &Recording) -> bool {
    recording.path.ends_with("/chat/completions") && recording.status == 200
}

/// Nothing said is an empty block, and nothing comes twice.
fn check_blocks(response: &Response, said: &Said, name: &str) {
    let texts = [&said.reasoning, &said.text, &said.refusal];
    let n_texts = texts.into_iter().filter(|text| !text.is_empty()).count();
    // Reasoning that is all encrypted.
    let content = &response.message.content;
    let n_hidden =
        content.iter().filter(|content| matches!(content, Content::Reasoning(r) if r.text.is_empty())).count();
    assert_eq!(content.len(), n_texts + said.calls.len() + n_hidden, "{name}");
}

#[test]
fn every_recorded_chat_completion_is_read() {
    let protocol = protocol();
    for (vendor, expected) in [("openai", 70), ("llamacpp", 48), ("openrouter", 84)] {
        let recordings = recordings::of(vendor);
        if recordings.is_empty() {
            continue;
        }
        let mut n_read = 0;
        for recording in recordings.iter().filter(|recording| is_chat(recording)) {
            if recording.asked["stream"] == true {
                continue;
            }
            let (name, body) = (&recording.name, &recording.answered);
            let response = protocol.response(&HeaderMap::new(), body.as_bytes());
            let response = response.unwrap_or_else(|error| panic!("{name}: {error}"));
            let said = read(body);
            assert_eq!(Said::of(&response), said, "{name}");
            check_blocks(&response, &said, name);
            n_read += 1;
        }
        assert_eq!(n_read, expected, "{vendor}");
    }
}

#[test]
fn every_recorded_stream_is_read_whatever_the_cuts() {
    let protocol = protocol();
    for (vendor, expected) in [("openai", 58), ("llamacpp", 22), ("openrouter", 58)] {
        let recordings = recordings::of(vendor);
        if recordings.is_empty() {
            continue;
        }
        let mut n_read = 0;
        for recording in recordings.iter().filter(|recording| is_chat(recording)) {
            if recording.asked["stream"] != true {
                continue;
            }
            let (name, body) = (&recording.name, &recording.answered);
            let response = cuts::check_cuts(&protocol, body.as_bytes(), name);
            let said = read(body);
            assert_eq!(Said::of(&response), said, "{name}");
            check_blocks(&response, &said, name);
            let done = body.rfind("[DONE]").unwrap() + "[DONE]".len();
            cuts::check_truncations(&protocol, body.as_bytes(), done, name);
            n_read += 1;
        }
        assert_eq!(n_read, expected, "{vendor}");
    }
}

/// What streams give in pieces goes back whole: signatures and encrypted reasoning of OpenRouter.
#[test]
fn reasoning_details_survive_streams() {
    let recordings = recordings::of("openrouter");
    let mut n_checked = 0;
    for recording in recordings.iter().filter(|recording| is_chat(recording)) {
        let whole: Vec<Value> = values(&recording.answered)
            .iter()
            .flat_map(|value| list(&value["choices"]).to_vec())
            .flat_map(|choice| {
                let message = choice.get("message").unwrap_or(&choice["delta"]);
                list(&message["reasoning_details"]).to_vec()
            })
            .collect();
        if whole.is_empty() {
            continue;
        }
        let response = match recording.asked["stream"] == true {
            true => cuts::answer(&protocol(), &[recording.answered.as_bytes()]).unwrap(),
            false => protocol().response(&HeaderMap::new(), recording.answered.as_bytes()).unwrap(),
        };
        let Some(Content::Reasoning(reasoning)) = response.message.content.first() else {
            panic!("{}: the reasoning comes first", recording.name);
        };
        let kept = &reasoning.opaque.as_ref().unwrap().data["reasoning_details"];
        for key in ["text", "summary", "data", "signature"] {
            let joined = |details: &[Value]| details.iter().map(|detail| text(&detail[key])).collect::<String>();
            assert_eq!(joined(list(kept)), joined(&whole), "{}: {key}", recording.name);
        }
        let mut kinds: Vec<_> = whole.iter().map(|detail| (&detail["index"], &detail["type"])).collect();
        kinds.dedup();
        assert_eq!(list(kept).len(), kinds.len(), "{}", recording.name);
        n_checked += 1;
    }
    if !recordings.is_empty() {
        assert_eq!(n_checked, 16);
    }
}

#[test]
fn log_probs_of_recordings_are_not_aligned_without_ids() {
    let recordings = recordings::of("openai");
    let with: Vec<_> = recordings
        .iter()
        .filter(|recording| is_chat(recording) && recording.asked["stream"] != true)
        .map(|recording| protocol().response(&HeaderMap::new(), recording.answered.as_bytes()).unwrap())
        .filter_map(|response| response.log_probs)
        .collect();
    assert!(with.iter().all(|log_probs| !log_probs.aligned));
    if !recordings.is_empty() {
        assert_eq!(with.len(), 8);
    }
}
