//! What comes back at once: answers, errors, models, embeddings.

use std::collections::VecDeque;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{ApiError, ApiErrorKind, Result};
use crate::json::{self, Str};
use crate::ollama::NAME;
use crate::ollama::stream::{Answer, raw_counts};
use crate::ollama::wire::{Embeddings, Failure, Line, Tags};
use crate::provider::{Availability, EmbeddingResponse};
use crate::response::{Response, Usage};

pub(super) fn whole(body: &[u8]) -> Result<Response> {
    let mut line: Line<'_> = json::parse(NAME, "an answer of /api/chat", body)?;
    // Servers that imitate Ollama leave it out of answers that are not streamed.
    line.done.get_or_insert(true);
    let mut answer = Answer::default();
    let mut events = VecDeque::new();
    answer.take(line, &mut events)?;
    if answer.is_done() { Ok(Response::of_events(events)) } else { Err(answer.incomplete()) }
}

pub(super) fn availability(body: &[u8]) -> Result<Availability> {
    let tags: Tags<'_> = json::parse(NAME, "the list of models", body)?;
    let names = tags.models.into_iter().flatten().filter_map(|tag| tag.model.given().or(tag.name.given()));
    Ok(Availability::new(names.collect()))
}

pub(super) fn embeddings(body: &[u8]) -> Result<EmbeddingResponse> {
    let read: Embeddings<'_> = json::parse(NAME, "an answer of /api/embed", body)?;
    let raw = raw_counts([
        ("total_duration", read.total_duration),
        ("load_duration", read.load_duration),
        ("prompt_eval_count", read.prompt_eval_count),
    ]);
    let usage = Usage { input: Some(read.prompt_eval_count.0.unwrap_or(0)), raw: Some(raw), ..Usage::default() };
    Ok(EmbeddingResponse::new(read.model.into_string(), read.embeddings, usage))
}

pub(super) fn error(status: StatusCode, body: &[u8]) -> ApiError {
    let failure = serde_json::from_slice::<Failure<'_>>(body).ok().and_then(|failure| failure.error);
    let message = failure.map_or_else(|| String::from_utf8_lossy(body).into_owned(), words);
    let mut error = ApiError::new(NAME, status.as_u16(), message);
    if let Some(kind) = kind_of_words(&error.message) {
        error.kind = kind;
    }
    error
}

/// An error under a status of success: what was generating broke.
pub(super) fn error_in_stream(failure: &RawValue) -> ApiError {
    let mut error = ApiError::new(NAME, 200, words(failure));
    error.kind = kind_of_words(&error.message).unwrap_or(ApiErrorKind::Server);
    error
}

/// Ollama has no codes: these words are the only sign.
fn kind_of_words(message: &str) -> Option<ApiErrorKind> {
    message.contains("exceeds the context length").then_some(ApiErrorKind::ContextLength)
}

fn words(error: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Words<'a> {
        #[serde(borrow, default)]
        message: Str<'a>,
    }

    let text = error.get();
    if let Ok(words) = serde_json::from_str::<Words<'_>>(text) {
        return words.message.into_string();
    }
    serde_json::from_str::<Str<'_>>(text).map(Str::into_string).unwrap_or_default()
}
