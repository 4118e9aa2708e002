//! What comes back at once: answers, errors, models; and what streams share with them.

use http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::anthropic::NAME;
use crate::anthropic::wire::{AnswerBlock, AnswerHead, Failure, Models};
use crate::error::{ApiError, ApiErrorKind, Error, Result};
use crate::json::{self, Str};
use crate::message::{Content, Opaque, Reasoning, Text, ToolCall};
use crate::provider::Availability;
use crate::response::{Response, Stop, StopReason, Usage};

pub(super) fn whole(body: &[u8]) -> Result<Response> {
    let head: AnswerHead<'_> = json::parse(NAME, "a message", body)?;
    if let Some(failure) = head.error {
        return Err(failed(StatusCode::OK, failure, head.request_id).into());
    }
    let Some(content) = head.content else {
        return Err(Error::Decode {
            provider: NAME.to_owned(),
            expected: "a message".to_owned(),
            found: "JSON without content".to_owned(),
        });
    };
    let mut response = Response { id: head.id.into_string(), model: head.model.into_string(), ..Response::default() };
    for block in content {
        response.message.content.push(whole_block(block)?);
    }
    let mut usage = Counts::default();
    usage.take(head.usage);
    response.usage = usage.usage();
    response.metadata = metadata(&head.stop_sequence, head.stop_details, head.container);
    response.stop = stop(&head.stop_reason);
    Ok(response)
}

fn whole_block(raw: &RawValue) -> Result<Content> {
    let block: AnswerBlock<'_> = json::parse(NAME, "a block of a message", raw.get().as_bytes())?;
    Ok(match &*block.r#type {
        "text" => {
            let citations = block.citations.map_or(Value::Null, value);
            Content::Text(Text { text: block.text.into_string(), opaque: with_citations(citations) })
        }
        "thinking" => {
            Content::Reasoning(Reasoning { text: block.thinking.into_string(), opaque: signed(&block.signature) })
        }
        "redacted_thinking" => Content::Reasoning(Reasoning { text: String::new(), opaque: redacted(&block.data) }),
        "tool_use" => Content::ToolCall(ToolCall {
            id: block.id.into_string(),
            name: block.name.into_string(),
            arguments: json::arguments(block.input),
            opaque: called_by(block.caller),
        }),
        _ => Content::Other(Opaque::new(NAME, value(raw))),
    })
}

/// Citations of a text, to be sent back with it.
pub(super) fn with_citations(citations: Value) -> Option<Opaque> {
    let some = citations.as_array().is_some_and(|citations| !citations.is_empty());
    some.then(|| Opaque::new(NAME, json!({"citations": citations})))
}

pub(super) fn signed(signature: &str) -> Option<Opaque> {
    (!signature.is_empty()).then(|| Opaque::new(NAME, json!({"signature": signature})))
}

pub(super) fn redacted(data: &str) -> Option<Opaque> {
    Some(Opaque::new(NAME, json!({"data": data})))
}

/// Who called a tool, unless the model did it directly: code of the vendor's interpreter may.
pub(super) fn called_by(caller: Option<&RawValue>) -> Option<Opaque> {
    let caller = value(caller?);
    (caller["type"] != "direct").then(|| Opaque::new(NAME, json!({"caller": caller})))
}

pub(super) fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// What else is said about an answer.
pub(super) fn metadata(
    stop_sequence: &str,
    stop_details: Option<&RawValue>,
    container: Option<&RawValue>,
) -> Map<String, Value> {
    let stop_sequence = (!stop_sequence.is_empty()).then(|| Value::from(stop_sequence));
    let said = [
        ("stop_sequence", stop_sequence),
        ("stop_details", stop_details.map(value)),
        ("container", container.map(value)),
    ];
    said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

pub(super) fn stop(reason: &str) -> Stop {
    let common = match reason {
        "end_turn" => StopReason::Stop,
        "stop_sequence" => StopReason::StopSequence,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "tool_use" => StopReason::ToolCalls,
        "refusal" => StopReason::ContentFilter,
        "pause_turn" => StopReason::Pause,
        _ => StopReason::Other,
    };
    Stop { reason: common, raw: (!reason.is_empty()).then(|| reason.to_owned()) }
}

/// Counts of tokens. The vendor says them twice in a stream, the second time for the whole answer and with fewer keys.
#[derive(Default)]
pub(super) struct Counts(Map<String, Value>);

impl Counts {
    pub(super) fn take(&mut self, usage: Option<&RawValue>) {
        if let Some(Value::Object(said)) = usage.map(value) {
            self.0.extend(said.into_iter().filter(|(_, value)| !value.is_null()));
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let count = |key: &str| self.0.get(key)?.as_u64();
        let cached_input = count("cache_read_input_tokens");
        let cache_write = count("cache_creation_input_tokens");
        let input = [count("input_tokens"), cached_input, cache_write];
        let some = input.iter().any(Option::is_some);
        Usage {
            input: some.then(|| input.into_iter().flatten().fold(0, u64::saturating_add)),
            cached_input,
            cache_write,
            output: count("output_tokens"),
            reasoning: self.0.get("output_tokens_details").and_then(|details| details["thinking_tokens"].as_u64()),
            raw: (!self.0.is_empty()).then(|| Value::Object(self.0.clone())),
        }
    }
}

pub(super) fn availability(body: &[u8]) -> Result<Availability> {
    let models: Models<'_> = json::parse(NAME, "the list of models", body)?;
    Ok(Availability::new(models.data.into_iter().flatten().filter_map(|model| model.id.given()).collect()))
}

pub(super) fn error(status: StatusCode, body: &[u8]) -> ApiError {
    match serde_json::from_slice::<AnswerHead<'_>>(body) {
        Ok(AnswerHead { error: Some(failure), request_id, .. }) => failed(status, failure, request_id),
        _ => ApiError::new(NAME, status.as_u16(), String::from_utf8_lossy(body)),
    }
}

/// An error, under a status or in the middle of a stream, whose status is 200.
pub(super) fn failed(status: StatusCode, failure: Failure<'_>, request_id: Str<'_>) -> ApiError {
    let mut error = ApiError::new(NAME, status.as_u16(), failure.message.into_string());
    error.kind = match &*failure.r#type {
        // These go under the type of any wrong request.
        "invalid_request_error" if says(&error.message, &["prompt is too long", "exceed context limit"]) => {
            ApiErrorKind::ContextLength
        }
        "invalid_request_error" if says(&error.message, &["credit balance is too low"]) => ApiErrorKind::Quota,
        "invalid_request_error" if says(&error.message, &["blocked by content filtering"]) => {
            ApiErrorKind::ContentPolicy
        }
        "invalid_request_error" => ApiErrorKind::InvalidRequest,
        "authentication_error" => ApiErrorKind::Authentication,
        "billing_error" => ApiErrorKind::Quota,
        "permission_error" => ApiErrorKind::PermissionDenied,
        "not_found_error" => ApiErrorKind::NotFound,
        "request_too_large" => ApiErrorKind::RequestTooLarge,
        "rate_limit_error" => ApiErrorKind::RateLimit,
        "timeout_error" => ApiErrorKind::Timeout,
        "overloaded_error" => ApiErrorKind::Overloaded,
        "api_error" => ApiErrorKind::Server,
        _ if status.is_success() => ApiErrorKind::Other,
        _ => error.kind,
    };
    error.code = failure.r#type.given();
    error.request_id = request_id.given();
    error
}

fn says(message: &str, words: &[&str]) -> bool {
    words.iter().any(|words| message.contains(words))
}
