//! Embeddings and lists of models.

use http::HeaderMap;
use llm_providers::{EmbeddingRequest, Error, Protocol};
use serde_json::{Value, json};

use crate::openai_chat_answers::protocol;
use crate::recordings;

fn asked(body: &Value) -> EmbeddingRequest {
    let input = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let mut request = EmbeddingRequest::new(body["model"].as_str().unwrap(), input);
    request.dimensions = body["dimensions"].as_u64().map(|dimensions| dimensions as u32);
    request
}

#[test]
fn recorded_embeddings_are_asked_for_and_read() {
    for (vendor, n_asked, n_answered) in [("openai", 6, 5), ("llamacpp", 5, 2), ("openrouter", 5, 5)] {
        let recordings = recordings::of(vendor);
        let all: Vec<_> = recordings.iter().filter(|recording| recording.path.ends_with("/embeddings")).collect();
        assert!(recordings.is_empty() || all.len() == n_asked, "{vendor}: {}", all.len());
        let mut n_read = 0;
        for recording in all {
            let request = asked(&recording.asked);
            let sent = protocol().embedding_request(&request).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(sent.body()).unwrap(), recording.asked, "{}", recording.name);
            if recording.status != 200 {
                continue;
            }
            let response = protocol().embeddings(&request, recording.answered.as_bytes()).unwrap();
            let answer: Value = serde_json::from_str(&recording.answered).unwrap();
            for (item, vector) in answer["data"].as_array().unwrap().iter().zip(&response.embeddings) {
                let numbers = item["embedding"].as_array().unwrap();
                let expected: Vec<f32> = numbers.iter().map(|number| number.as_f64().unwrap() as f32).collect();
                assert_eq!(*vector, expected, "{}", recording.name);
            }
            assert_eq!(response.embeddings.len(), request.input.len());
            assert_eq!(response.usage.input, answer["usage"]["prompt_tokens"].as_u64());
            assert_eq!(response.model, answer["model"]);
            n_read += 1;
        }
        assert!(recordings.is_empty() || n_read == n_answered, "{vendor}: {n_read}");
    }
}

#[test]
fn embeddings_come_in_any_order_and_in_base64() {
    let request = EmbeddingRequest::new("m", ["a", "b"]);
    let read = |data: Value| protocol().embeddings(&request, json!({ "data": data }).to_string().as_bytes());
    let expected = vec![vec![1.0, -0.5], vec![2.0, 0.25]];
    for data in [
        json!([{ "index": 1, "embedding": [2.0, 0.25] }, { "index": 0, "embedding": [1, -0.5] }]),
        json!([{ "embedding": [[1, -0.5]] }, { "embedding": [2.0, 0.25] }]),
        json!([{ "index": 0, "embedding": "AACAPwAAAL8=" }, { "index": 1, "embedding": "AAAAQAAAgD4=" }]),
    ] {
        assert_eq!(read(data).unwrap().embeddings, expected);
    }
    for data in [
        json!([{ "index": 0, "embedding": [1] }]),
        json!([{ "index": 0, "embedding": [1] }, { "index": 2, "embedding": [1] }]),
        json!([{ "index": 0, "embedding": [1] }, { "index": 0, "embedding": [1] }]),
        json!([{ "embedding": "AAAA" }, { "embedding": [1] }]),
        json!([{ "embedding": [[1], [2]] }, { "embedding": [1] }]),
        json!("secret"),
    ] {
        let error = read(data).unwrap_err();
        assert!(matches!(&error, Error::Decode { .. }) && !error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn models_are_listed() {
    let mut n_read = 0;
    for vendor in ["openai", "llamacpp", "openrouter"] {
        for recording in recordings::of(vendor) {
            if recording.path.ends_with("/models") && recording.status == 200 {
                let models = protocol().availability(recording.answered.as_bytes()).unwrap().models;
                assert!(!models.is_empty() && models.iter().all(|model| !model.is_empty()), "{}", recording.name);
                n_read += 1;
            }
        }
    }
    assert!([0, 4].contains(&n_read), "{n_read}");
    for list in ["{\"data\":[{\"id\":\"a\"}]}", "[{\"id\":\"a\"}]", "{\"models\":[{\"name\":\"a\"}, {}]}"] {
        assert_eq!(protocol().availability(list.as_bytes()).unwrap().models, ["a"]);
    }
    assert!(matches!(protocol().availability(b"{}"), Err(Error::Decode { .. })));
    let request = protocol().availability_request().unwrap();
    assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/v1/models"));
    assert!(protocol().response(&HeaderMap::new(), b"{\"choices\":[]}").is_err());
}
