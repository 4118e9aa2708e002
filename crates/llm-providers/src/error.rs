//! What can go wrong.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::capabilities::Feature;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a request and its answer.
///
/// Neither `Display` nor `Debug` gives what was asked, what was answered, or a key: what vendors say in their errors is shown with
/// everything struck out that occurs in the request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vendor answered with an error, as a status or in the middle of a stream.
    #[error("{0}")]
    Api(Box<ApiError>),
    /// A setting of the client is missing or wrong.
    #[error("{setting}: {problem}")]
    Configuration {
        /// The key, flag or variable.
        setting: String,
        /// What was expected and what came.
        problem: String,
    },
    /// The vendor cannot do what the request needs.
    #[error("{provider} has no {feature}")]
    Unsupported {
        /// Whose limit it is.
        provider: String,
        /// What is missing.
        feature: Feature,
    },
    /// The request cannot be said in the vendor's protocol.
    #[error("request for {provider}: {problem}")]
    InvalidRequest {
        /// Whose protocol.
        provider: String,
        /// What was expected and what came, without content.
        problem: String,
    },
    /// No connection.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// Scheme, host and port.
        endpoint: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The connection broke.
    #[error("the connection to {endpoint} broke {phase}")]
    Transport {
        /// Scheme, host and port.
        endpoint: String,
        /// When.
        phase: Phase,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A deadline passed.
    #[error("no {deadline} within {after:?}")]
    Timeout {
        /// Which deadline.
        deadline: Deadline,
        /// How long was waited.
        after: Duration,
    },
    /// The answer is not what the protocol says.
    #[error("{provider} sent {found}, expected {expected}")]
    Decode {
        /// Whose answer.
        provider: String,
        /// What the protocol says.
        expected: String,
        /// What came: its place and kind, not its content.
        found: String,
    },
    /// The stream ended before the answer did.
    #[error("the stream of {provider} ended without {missing}")]
    Incomplete {
        /// Whose stream.
        provider: String,
        /// What the protocol ends with.
        missing: String,
    },
    /// The answer is larger than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound, in bytes.
        limit: usize,
    },
    /// Repeating was given up: whoever is above does not repeat it again.
    #[error("{last} ({attempts} attempts)")]
    Exhausted {
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        #[source]
        last: Box<Error>,
    },
    /// A request that several callers shared failed.
    #[error("{0}")]
    Shared(Arc<Error>),
    /// A budget of money, tokens or retries is spent.
    #[error("the budget of {budget} is spent")]
    BudgetSpent {
        /// Which.
        budget: String,
    },
    /// A recording or a scripted provider has nothing for this request.
    #[error("{what} has no answer for this request: {problem}")]
    Unrecorded {
        /// What was asked.
        what: String,
        /// How it differs from what is there, without content.
        problem: String,
    },
}

/// When a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Before the first byte of the answer.
    Send,
    /// In the answer.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send => "before an answer came",
            Self::Body => "in the middle of the answer",
        })
    }
}

/// A deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// For a connection.
    Connect,
    /// For the first piece of the answer.
    FirstChunk,
    /// For the next piece of the answer.
    Idle,
    /// For the whole answer.
    Total,
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connection",
            Self::FirstChunk => "first piece of an answer",
            Self::Idle => "next piece of the answer",
            Self::Total => "whole answer",
        })
    }
}

/// An error that a vendor reported.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ApiError {
    /// Who reported it.
    pub provider: String,
    /// The HTTP status; 200 for an error in the middle of a stream.
    pub status: u16,
    /// What it is about.
    pub kind: ApiErrorKind,
    /// The vendor's code or type.
    pub code: Option<String>,
    /// The vendor's words, with what occurs in the request struck out.
    pub message: String,
    /// The vendor's id of the request, for its support.
    pub request_id: Option<String>,
    /// When to try again, as the vendor says.
    pub retry_after: Option<Duration>,
    /// Whether to try again, where the vendor says so (`x-should-retry`).
    pub should_retry: Option<bool>,
}

impl ApiError {
    /// An error of a vendor with what its status says alone.
    pub fn new(provider: impl Into<String>, status: u16, message: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            status,
            kind: ApiErrorKind::of_status(status),
            code: None,
            message: message.into(),
            request_id: None,
            retry_after: None,
            should_retry: None,
        }
    }

    /// Whether another attempt may succeed: 408, 409, 429 and 500 up, and errors in a stream of those kinds, unless the vendor says
    /// otherwise; an exhausted quota never.
    pub fn is_retryable(&self) -> bool {
        if self.kind == ApiErrorKind::Quota {
            return false;
        }
        let by_status = match self.status {
            200..300 => matches!(
                self.kind,
                ApiErrorKind::RateLimit | ApiErrorKind::Overloaded | ApiErrorKind::Server | ApiErrorKind::Timeout
            ),
            status => matches!(status, 408 | 409 | 429 | 500..),
        };
        self.should_retry.unwrap_or(by_status)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.provider)?;
        match self.status {
            200..300 => write!(f, "error in the stream")?,
            status => write!(f, "{status}")?,
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl StdError for ApiError {}

/// What a vendor's error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiErrorKind {
    /// The request is wrong.
    InvalidRequest,
    /// The key is missing or wrong.
    Authentication,
    /// The key may not do this.
    PermissionDenied,
    /// No such model or address.
    NotFound,
    /// The conversation is longer than the model's context.
    ContextLength,
    /// The vendor's rules forbid the content.
    ContentPolicy,
    /// The request has too many bytes.
    RequestTooLarge,
    /// Too many requests at the moment.
    RateLimit,
    /// The account's money or day's quota is spent: waiting does not help.
    Quota,
    /// The vendor has no capacity at the moment.
    Overloaded,
    /// The vendor gave up waiting.
    Timeout,
    /// Two requests collided.
    Conflict,
    /// The vendor failed.
    Server,
    /// Anything else.
    Other,
}

impl ApiErrorKind {
    /// What a status says alone.
    pub fn of_status(status: u16) -> Self {
        match status {
            400 | 422 => Self::InvalidRequest,
            401 => Self::Authentication,
            402 => Self::Quota,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            409 => Self::Conflict,
            413 => Self::RequestTooLarge,
            429 => Self::RateLimit,
            503 | 529 => Self::Overloaded,
            500.. => Self::Server,
            _ => Self::Other,
        }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

impl Error {
    /// An answer of `provider` that is not the JSON it should be. What serde says quotes the answer; this gives its place alone.
    pub(crate) fn of_json(provider: &str, expected: &str, error: &serde_json::Error) -> Self {
        let what = match error.classify() {
            serde_json::error::Category::Data => "JSON of another form",
            serde_json::error::Category::Eof => "JSON that is cut off",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "what is not JSON",
        };
        Self::Decode {
            provider: provider.to_owned(),
            expected: expected.to_owned(),
            found: format!("{what} at line {} column {}", error.line(), error.column()),
        }
    }

    /// Whether another attempt may succeed, as the vendors' own clients judge it: connections and deadlines, and what
    /// [`ApiError::is_retryable`] says. What was repeated already is not.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Api(error) => error.is_retryable(),
            Self::Connect { .. } | Self::Transport { .. } | Self::Timeout { .. } | Self::Incomplete { .. } => true,
            Self::Shared(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// The HTTP status of the vendor's error.
    pub fn status(&self) -> Option<u16> {
        self.api().map(|error| error.status)
    }

    /// When to try again, as the vendor says.
    pub fn retry_after(&self) -> Option<Duration> {
        self.api()?.retry_after
    }

    /// The vendor's id of the request.
    pub fn request_id(&self) -> Option<&str> {
        self.api()?.request_id.as_deref()
    }

    /// What the vendor reported, also behind repeated attempts.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            Self::Exhausted { last, .. } => last.api(),
            Self::Shared(error) => error.api(),
            _ => None,
        }
    }

    /// A short name of what went wrong, for `error.type` of OpenTelemetry.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Api(error) => match error.kind {
                ApiErrorKind::InvalidRequest => "invalid_request",
                ApiErrorKind::Authentication => "authentication",
                ApiErrorKind::PermissionDenied => "permission_denied",
                ApiErrorKind::NotFound => "not_found",
                ApiErrorKind::ContextLength => "context_length",
                ApiErrorKind::ContentPolicy => "content_policy",
                ApiErrorKind::RequestTooLarge => "request_too_large",
                ApiErrorKind::RateLimit => "rate_limit",
                ApiErrorKind::Quota => "quota",
                ApiErrorKind::Overloaded => "overloaded",
                ApiErrorKind::Timeout => "vendor_timeout",
                ApiErrorKind::Conflict => "conflict",
                ApiErrorKind::Server => "server",
                ApiErrorKind::Other => "api",
            },
            Self::Configuration { .. } => "configuration",
            Self::Unsupported { .. } => "unsupported",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::Connect { .. } => "connect",
            Self::Transport { .. } => "transport",
            Self::Timeout { .. } => "timeout",
            Self::Decode { .. } => "decode",
            Self::Incomplete { .. } => "incomplete",
            Self::TooLarge { .. } => "too_large",
            Self::Exhausted { last, .. } => last.kind(),
            Self::Shared(error) => error.kind(),
            Self::BudgetSpent { .. } => "budget_spent",
            Self::Unrecorded { .. } => "unrecorded",
        }
    }
}
