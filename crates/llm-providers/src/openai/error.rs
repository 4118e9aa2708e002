//! Errors, in the forms that OpenAI and its copies give them.

use serde_json::Value;

use crate::error::{ApiError, ApiErrorKind};

/// Reads `{"error": {"message", "type", "code"}}` and what others send: a text for the object, the object without its envelope,
/// `{"detail": ..}`, a list of one, a text alone, HTML.
pub(super) fn read(provider: &str, status: u16, body: &[u8]) -> ApiError {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return of_value(provider, status, &value);
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let message = if text.starts_with('<') { "a page of HTML" } else { text };
    ApiError::new(provider, status, message)
}

/// An error in the middle of a stream, or in an answer with a status of success.
pub(super) fn in_stream(provider: &str, data: &[u8]) -> ApiError {
    read(provider, 200, data)
}

/// The same for an answer that is JSON. `status` is 200 for an error in the middle of a stream.
fn of_value(provider: &str, status: u16, value: &Value) -> ApiError {
    let value = value.get(0).unwrap_or(value);
    let inner = match value.get("error") {
        None | Some(Value::Null) => value.get("response").and_then(|response| response.get("error")).unwrap_or(value),
        Some(error) => error,
    };
    let code = ["code", "type"].iter().filter_map(|key| inner.get(key)).find_map(Value::as_str);
    let number =
        ["code", "status"].iter().filter_map(|key| inner.get(key).or_else(|| value.get(key))).find_map(status_code);
    let message = message(inner).or_else(|| message(value)).unwrap_or_default();
    let mut error = ApiError::new(provider, status, message);
    error.code = code.map(str::to_owned).or_else(|| number.map(|number| number.to_string()));
    let by_number = number.map(ApiErrorKind::of_status).filter(|_| status == 200);
    let words = || ["code", "type"].iter().filter_map(|key| inner.get(key)?.as_str());
    let vague = words().find_map(kind_of_vague_word).filter(|_| status == 200);
    error.kind = words().find_map(kind_of_word).or(by_number).or(vague).unwrap_or(error.kind);
    if error.kind == ApiErrorKind::InvalidRequest && speaks_of_context(&error.message) {
        error.kind = ApiErrorKind::ContextLength;
    }
    error
}

fn status_code(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|number| (400..600).contains(number))
}

fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => {
            let text = ["message", "detail", "error", "msg"].iter().find_map(|key| map.get(*key).and_then(message))?;
            // OpenRouter says what its upstream said beside a message that says nothing.
            match map.get("metadata").and_then(|metadata| metadata.get("raw")).and_then(Value::as_str) {
                Some(raw) => Some(format!("{text}: {raw}")),
                None => Some(text),
            }
        }
        Value::Array(list) => {
            let texts: Vec<_> = list.iter().filter_map(message).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        _ => None,
    }
}

/// What a code or type means. `invalid_request_error` stands beside so many statuses that the status says more.
fn kind_of_word(word: &str) -> Option<ApiErrorKind> {
    Some(match word {
        "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active" | "quota_exceeded" => {
            ApiErrorKind::Quota
        }
        "context_length_exceeded" | "exceed_context_size_error" | "string_above_max_length" => {
            ApiErrorKind::ContextLength
        }
        "content_policy_violation" | "content_filter" | "moderation_blocked" => ApiErrorKind::ContentPolicy,
        "rate_limit_exceeded" | "rate_limit_error" | "rate_limit_reached" => ApiErrorKind::RateLimit,
        "invalid_api_key" | "authentication_error" | "invalid_authentication" => ApiErrorKind::Authentication,
        "permission_error" | "permission_denied" => ApiErrorKind::PermissionDenied,
        "model_not_found" | "not_found_error" | "previous_response_not_found" => ApiErrorKind::NotFound,
        "server_overloaded"
        | "overloaded_error"
        | "engine_overloaded"
        | "slow_down"
        | "unavailable_error"
        | "service_unavailable" => ApiErrorKind::Overloaded,
        "timeout" | "timeout_error" => ApiErrorKind::Timeout,
        "not_supported_error" => ApiErrorKind::InvalidRequest,
        _ => return None,
    })
}

/// What words mean that say less than a status does, where there is none.
fn kind_of_vague_word(word: &str) -> Option<ApiErrorKind> {
    Some(match word {
        "server_error" | "internal_error" | "internal_server_error" | "InternalServerError" | "api_error" => {
            ApiErrorKind::Server
        }
        "invalid_request_error" | "invalid_prompt" | "BadRequestError" => ApiErrorKind::InvalidRequest,
        _ => return None,
    })
}

/// vLLM and others have no code for it.
fn speaks_of_context(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["maximum context length", "context length of", "exceeds the available context", "context window"]
        .iter()
        .any(|words| message.contains(words))
}
