//! What comes back at once: answers, errors, models, embeddings; and what streams share with them.

use std::collections::VecDeque;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{ApiError, ApiErrorKind, Result};
use crate::gemini::NAME;
use crate::gemini::stream::Answer;
use crate::gemini::wire::{Detail, Embeddings, Failure, Models, PromptFeedback, UsageMetadata};
use crate::json;
use crate::provider::{Availability, EmbeddingRequest, EmbeddingResponse};
use crate::response::{Response, Usage};

pub(super) fn whole(body: &[u8]) -> Result<Response> {
    let mut answer = Answer::default();
    let mut events = VecDeque::new();
    answer.take_all(body, &mut events)?;
    answer.end(&mut events)?;
    Ok(Response::of_events(events))
}

/// Why the prompt was blocked.
pub(super) fn block_reason(feedback: &RawValue) -> Option<String> {
    serde_json::from_str::<PromptFeedback<'_>>(feedback.get()).ok()?.block_reason.given()
}

/// Counts of tokens, without the vendor's own words.
pub(super) fn usage(raw: &RawValue) -> Result<Usage> {
    let said: UsageMetadata = json::parse(NAME, "counts of tokens", raw.get().as_bytes())?;
    let sum = |a: Option<u64>, b: Option<u64>| Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0)));
    Ok(Usage {
        input: sum(said.prompt_token_count.0, said.tool_use_prompt_token_count.0),
        cached_input: said.cached_content_token_count.0,
        output: sum(said.candidates_token_count.0, said.thoughts_token_count.0),
        reasoning: said.thoughts_token_count.0,
        ..Usage::default()
    })
}

pub(super) fn availability(body: &[u8]) -> Result<Availability> {
    let models: Models<'_> = json::parse(NAME, "the list of models", body)?;
    let names = models.models.into_iter().flatten().filter_map(|model| model.name.given());
    Ok(Availability::new(names.map(|name| name.strip_prefix("models/").map(str::to_owned).unwrap_or(name)).collect()))
}

pub(super) fn embeddings(request: &EmbeddingRequest, body: &[u8]) -> Result<EmbeddingResponse> {
    let read: Embeddings<'_> = json::parse(NAME, "embeddings", body)?;
    let mut counted = Usage::default();
    if let Some(raw) = read.usage_metadata {
        let said = usage(raw)?;
        counted.input = said.input;
        counted.raw = serde_json::from_str(raw.get()).ok();
    }
    let vectors = read.embeddings.into_iter().map(|embedding| embedding.values).collect();
    Ok(EmbeddingResponse::new(request.model.as_str(), vectors, counted))
}

pub(super) fn error(status: StatusCode, body: &[u8]) -> ApiError {
    #[derive(Deserialize)]
    struct Failed<'a> {
        #[serde(borrow)]
        error: Failure<'a>,
    }

    // Some errors come in an array. It is looked for first: serde takes an array for an object's fields in their order.
    let failure = match serde_json::from_slice::<Vec<Failed<'_>>>(body) {
        Ok(failures) => failures.into_iter().next(),
        Err(_) => serde_json::from_slice(body).ok(),
    };
    match failure {
        Some(Failed { error }) => failed(status, error),
        None => ApiError::new(NAME, status.as_u16(), String::from_utf8_lossy(body)),
    }
}

/// An error, under a status or in the middle of a stream, whose status is 200.
pub(super) fn failed(status: StatusCode, failure: Failure<'_>) -> ApiError {
    let mut error = ApiError::new(NAME, status.as_u16(), failure.message.into_string());
    if status.is_success() {
        let code = failure.code.0.and_then(|code| u16::try_from(code).ok());
        error.kind = code.map_or(ApiErrorKind::Other, ApiErrorKind::of_status);
    }
    error.kind = match &*failure.status {
        "INVALID_ARGUMENT" if error.message.contains("input token count") => ApiErrorKind::ContextLength,
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => ApiErrorKind::InvalidRequest,
        "UNAUTHENTICATED" => ApiErrorKind::Authentication,
        "PERMISSION_DENIED" => ApiErrorKind::PermissionDenied,
        "NOT_FOUND" => ApiErrorKind::NotFound,
        "RESOURCE_EXHAUSTED" => ApiErrorKind::RateLimit,
        "UNAVAILABLE" => ApiErrorKind::Overloaded,
        "DEADLINE_EXCEEDED" => ApiErrorKind::Timeout,
        "ABORTED" | "ALREADY_EXISTS" => ApiErrorKind::Conflict,
        "INTERNAL" | "UNKNOWN" | "DATA_LOSS" => ApiErrorKind::Server,
        _ => error.kind,
    };
    for detail in failure.details.into_iter().flatten() {
        let Ok(detail) = serde_json::from_str::<Detail<'_>>(detail.get()) else { continue };
        if let Some(delay) = duration(&detail.retry_delay) {
            error.retry_after = Some(delay);
        }
        // A wrong key is an invalid argument to Google.
        if detail.reason.starts_with("API_KEY_") {
            error.kind = ApiErrorKind::Authentication;
        }
        // Waiting for tomorrow is not a retry.
        if detail.violations.into_iter().flatten().any(|violation| violation.quota_id.contains("PerDay")) {
            error.kind = ApiErrorKind::Quota;
        }
    }
    error.code = failure.status.given();
    error
}

/// A duration as protocol buffers write it, `38s` or `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()
}
