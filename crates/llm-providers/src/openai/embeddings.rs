//! Embeddings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::usage;
use crate::error::{Error, Result};
use crate::json::{self, Str};
use crate::provider::{EmbeddingRequest, EmbeddingResponse};
use crate::response::Usage;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default, borrow)]
    model: Str<'a>,
    data: Vec<Item<'a>>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default)]
    index: Option<usize>,
    #[serde(borrow)]
    embedding: Embedding<'a>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Embedding<'a> {
    Numbers(Vec<f32>),
    /// The bytes of numbers of 4 bytes, little end first.
    Base64(#[serde(borrow)] std::borrow::Cow<'a, str>),
    /// llama.cpp without pooling gives one vector for each token.
    Tokens(Vec<Vec<f32>>),
}

pub(super) fn body(request: &EmbeddingRequest) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.as_str().into());
    body.insert("input".to_owned(), request.input.as_slice().into());
    if let Some(dimensions) = request.dimensions {
        body.insert("dimensions".to_owned(), dimensions.into());
    }
    body
}

pub(super) fn read(provider: &str, request: &EmbeddingRequest, body: &[u8]) -> Result<EmbeddingResponse> {
    let wrong = |expected: &str, found: String| Error::Decode {
        provider: provider.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let wire: Wire<'_> = json::parse(provider, "embeddings", body)?;
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; request.input.len()];
    for (place, item) in wire.data.into_iter().enumerate() {
        let index = item.index.unwrap_or(place);
        let slot = vectors.get_mut(index).ok_or_else(|| {
            wrong(&format!("{} embeddings", request.input.len()), format!("one with the index {index}"))
        })?;
        *slot = Some(match item.embedding {
            Embedding::Numbers(numbers) => numbers,
            Embedding::Base64(text) => {
                let bytes = STANDARD.decode(text.as_bytes()).ok().filter(|bytes| bytes.len() % 4 == 0);
                let bytes =
                    bytes.ok_or_else(|| wrong("an embedding", "a text that is not numbers in base64".to_owned()))?;
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
            }
            Embedding::Tokens(mut tokens) if tokens.len() == 1 => tokens.remove(0),
            Embedding::Tokens(tokens) => {
                return Err(wrong("one vector for a text", format!("{} (is pooling off?)", tokens.len())));
            }
        });
    }
    let n_found = vectors.iter().flatten().count();
    if n_found != vectors.len() {
        return Err(wrong(&format!("{} embeddings", vectors.len()), n_found.to_string()));
    }
    let usage = wire.usage.filter(Value::is_object).map_or_else(Usage::default, usage::read);
    Ok(EmbeddingResponse::new(wire.model.0, vectors.into_iter().flatten().collect(), usage))
}
