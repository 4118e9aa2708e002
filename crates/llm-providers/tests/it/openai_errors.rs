//! Errors: every recorded one, and the forms that no recording has.

use http::StatusCode;
use llm_providers::{ApiError, ApiErrorKind, Protocol};

use crate::openai_chat_answers::protocol;
use crate::recordings;

fn read(status: u16, body: &str) -> ApiError {
    protocol().error(StatusCode::from_u16(status).unwrap(), body.as_bytes())
}

/// Status, the vendor's code or type, what it means, and how many recordings say so. All endpoints speak of errors alike.
const RECORDED: [(&str, u16, &str, ApiErrorKind, usize); 11] = [
    ("openai", 400, "model_not_found", ApiErrorKind::NotFound, 2),
    ("openai", 400, "previous_response_not_found", ApiErrorKind::NotFound, 1),
    ("openai", 400, "invalid_value", ApiErrorKind::InvalidRequest, 3),
    ("openai", 400, "unknown_parameter", ApiErrorKind::InvalidRequest, 2),
    ("openai", 400, "invalid_request_error", ApiErrorKind::InvalidRequest, 1),
    ("openai", 401, "invalid_api_key", ApiErrorKind::Authentication, 6),
    ("openai", 404, "model_not_found", ApiErrorKind::NotFound, 1),
    ("llamacpp", 400, "exceed_context_size_error", ApiErrorKind::ContextLength, 1),
    ("llamacpp", 400, "invalid_request_error", ApiErrorKind::InvalidRequest, 5),
    ("llamacpp", 500, "server_error", ApiErrorKind::Server, 1),
    ("llamacpp", 501, "not_supported_error", ApiErrorKind::InvalidRequest, 2),
];

#[test]
fn every_recorded_error_has_its_kind() {
    for vendor in ["openai", "llamacpp", "openrouter"] {
        let failed: Vec<_> = recordings::of(vendor).into_iter().filter(|recording| recording.status >= 400).collect();
        let mut left = failed.len();
        for (_, status, code, kind, count) in RECORDED.iter().filter(|row| row.0 == vendor && !failed.is_empty()) {
            let errors = failed.iter().map(|recording| read(recording.status, &recording.answered));
            let found = errors.filter(|error| error.status == *status && error.code.as_deref() == Some(*code));
            let kinds: Vec<_> = found.map(|error| (error.kind, error.message.is_empty())).collect();
            assert_eq!(kinds, vec![(*kind, false); *count], "{vendor} {status} {code}");
            left -= count;
        }
        assert_eq!(left, 0, "{vendor}");
    }
}

#[test]
fn errors_are_read_in_every_form() {
    for (status, body, kind, code, message) in [
        (
            429,
            r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            ApiErrorKind::Quota,
            Some("insufficient_quota"),
            "m",
        ),
        (
            429,
            r#"{"error":{"message":"m","type":"insufficient_quota","code":null}}"#,
            ApiErrorKind::Quota,
            Some("insufficient_quota"),
            "m",
        ),
        (
            429,
            r#"{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}"#,
            ApiErrorKind::RateLimit,
            Some("rate_limit_exceeded"),
            "m",
        ),
        (
            400,
            r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#,
            ApiErrorKind::ContextLength,
            Some("context_length_exceeded"),
            "m",
        ),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 8 tokens.","type":"BadRequestError","code":400}"#,
            ApiErrorKind::ContextLength,
            Some("BadRequestError"),
            "This model's maximum context length is 8 tokens.",
        ),
        (400, r#"{"error":{"message":"m","code":400}}"#, ApiErrorKind::InvalidRequest, Some("400"), "m"),
        (
            400,
            r#"{"error":{"message":"m","type":null,"code":"content_policy_violation"}}"#,
            ApiErrorKind::ContentPolicy,
            Some("content_policy_violation"),
            "m",
        ),
        (
            403,
            r#"{"error":{"message":"m","code":403,"metadata":{"raw":"why"}}}"#,
            ApiErrorKind::PermissionDenied,
            Some("403"),
            "m: why",
        ),
        (500, r#"{"error":"m"}"#, ApiErrorKind::Server, None, "m"),
        (422, r#"{"detail":"m"}"#, ApiErrorKind::InvalidRequest, None, "m"),
        (
            422,
            r#"{"detail":[{"loc":["body"],"msg":"a","type":"missing"},{"msg":"b"}]}"#,
            ApiErrorKind::InvalidRequest,
            None,
            "a; b",
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#,
            ApiErrorKind::InvalidRequest,
            Some("400"),
            "m",
        ),
        (
            503,
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
            ApiErrorKind::Overloaded,
            Some("unavailable_error"),
            "Loading model",
        ),
        (529, r#""m""#, ApiErrorKind::Overloaded, None, "m"),
        (502, "<html><body>Bad Gateway</body></html>", ApiErrorKind::Server, None, "a page of HTML"),
        (404, "404 page not found", ApiErrorKind::NotFound, None, "404 page not found"),
        (401, "", ApiErrorKind::Authentication, None, ""),
        (500, "null", ApiErrorKind::Server, None, ""),
        (500, "{}", ApiErrorKind::Server, None, ""),
    ] {
        let error = read(status, body);
        assert_eq!((error.kind, error.code.as_deref(), error.message.as_str()), (kind, code, message), "{body}");
        assert_eq!((error.status, error.provider.as_str()), (status, "openai"), "{body}");
        assert_eq!(error.is_retryable(), status != 429 && status >= 500 || kind == ApiErrorKind::RateLimit, "{body}");
    }
    assert_eq!(read(500, "\u{fffd}\u{0}").kind, ApiErrorKind::Server);
}
