//! Recorded answers of the Responses API, against a reading of their JSON that shares nothing with the decoder.

use http::HeaderMap;
use llm_providers::openai::Api;
use llm_providers::{Content, OpenAi, Protocol, Response};
use serde_json::Value;

use crate::cuts;
use crate::openai_chat_answers::{Said, protocol, values};
use crate::recordings::{self, Recording};

pub(crate) fn responses() -> OpenAi {
    protocol().with_api(Api::Responses)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The whole answer: of a stream, what its last event holds.
fn whole(body: &str) -> Value {
    let values = values(body);
    let last = values.last().unwrap();
    last.get("response").unwrap_or(last).clone()
}

fn read(whole: &Value) -> Said {
    let mut said = Said { id: text(&whole["id"]).into(), model: text(&whole["model"]).into(), ..Said::default() };
    for item in list(&whole["output"]) {
        match text(&item["type"]) {
            "message" => {
                for part in list(&item["content"]) {
                    said.text += text(&part["text"]);
                    said.refusal += text(&part["refusal"]);
                }
            }
            "reasoning" => {
                let parts: Vec<_> = list(&item["summary"]).iter().map(|part| text(&part["text"])).collect();
                said.reasoning += &parts.join("\n\n");
            }
            "function_call" => {
                said.calls.push(["call_id", "name", "arguments"].map(|key| text(&item[key]).to_owned()));
            }
            other => panic!("{other}"),
        }
    }
    let paths = [
        "/usage/input_tokens",
        "/usage/input_tokens_details/cached_tokens",
        "/usage/output_tokens",
        "/usage/output_tokens_details/reasoning_tokens",
    ];
    said.usage = paths.map(|path| whole.pointer(path).and_then(Value::as_u64));
    said.stop = match (text(&whole["status"]), text(&whole["incomplete_details"]["reason"])) {
        ("incomplete", "max_output_tokens") => "Length",
        ("completed", _) if !said.calls.is_empty() => "ToolCalls",
        ("completed", _) if !said.refusal.is_empty() => "ContentFilter",
        ("completed", _) => "Stop",
        other => panic!("{other:?}"),
    }
    .to_owned();
    said
}

fn is_response(recording: &Recording) -> bool {
    recording.path.ends_with("/responses") && recording.status == 200
}

/// Every item is there in its order, and reasoning keeps what has to go back.
fn check_items(response: &Response, whole: &Value, name: &str) {
    let mut contents = response.message.content.iter();
    for item in list(&whole["output"]) {
        match (text(&item["type"]), contents.next()) {
            ("message", Some(Content::Text(block) | Content::Refusal(block))) => {
                let data = &block.opaque.as_ref().unwrap().data;
                assert_eq!((&data["message"]["id"], list(&item["content"]).len()), (&item["id"], 1), "{name}");
            }
            ("reasoning", Some(Content::Reasoning(block))) => {
                let data = &block.opaque.as_ref().unwrap().data;
                assert_eq!((&data["id"], &data["summary"]), (&item["id"], &item["summary"]), "{name}");
                assert_eq!(data["encrypted_content"].is_string(), item["encrypted_content"].is_string(), "{name}");
            }
            ("function_call", Some(Content::ToolCall(call))) => {
                assert_eq!(call.opaque.as_ref().unwrap().data["item"]["id"], item["id"], "{name}");
            }
            (kind, content) => panic!("{name}: {kind} is {content:?}"),
        }
    }
    assert!(contents.next().is_none(), "{name}");
}

#[test]
fn every_recorded_response_is_read() {
    for (vendor, expected) in [("openai", 51), ("llamacpp", 1)] {
        let recordings = recordings::of(vendor);
        let mut n_read = 0;
        for recording in recordings.iter().filter(|recording| is_response(recording)) {
            if recording.asked["stream"] == true {
                continue;
            }
            let (name, body) = (&recording.name, &recording.answered);
            let response = responses().response(&HeaderMap::new(), body.as_bytes());
            let response = response.unwrap_or_else(|error| panic!("{name}: {error}"));
            let whole = whole(body);
            assert_eq!(Said::of(&response), read(&whole), "{name}");
            check_items(&response, &whole, name);
            n_read += 1;
        }
        assert!(n_read == expected || recordings.is_empty(), "{vendor}: {n_read}");
    }
}

#[test]
fn every_recorded_stream_of_a_response_is_read_whatever_the_cuts() {
    let recordings = recordings::of("openai");
    let mut n_read = 0;
    for recording in recordings.iter().filter(|recording| is_response(recording)) {
        if recording.asked["stream"] != true {
            continue;
        }
        let (name, body) = (&recording.name, &recording.answered);
        let response = cuts::check_cuts(&responses(), body.as_bytes(), name);
        let whole = whole(body);
        assert_eq!(Said::of(&response), read(&whole), "{name}");
        check_items(&response, &whole, name);
        cuts::check_truncations(&responses(), body.as_bytes(), body.trim_end().len(), name);
        // What the stream said is what the answer at its end says, but for what is encrypted anew.
        let at_once = responses().response(&HeaderMap::new(), whole.to_string().as_bytes()).unwrap();
        assert_eq!(Said::of(&at_once), Said::of(&response), "{name}");
        assert_eq!((&at_once.metadata, &at_once.stop), (&response.metadata, &response.stop), "{name}");
        n_read += 1;
    }
    assert!(n_read == 28 || recordings.is_empty(), "{n_read}");
}
