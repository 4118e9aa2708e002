//! Questions, answers, and why there is none.

use std::fmt;

use krystal::dynlora::ContentHash;
use krystal::llm::{ApiErrorKind, Error, Request, Response, StopReason};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Hosted;
use crate::failure::one_line;

/// A request, and the name of its content.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) key: String,
    pub(crate) request: Request,
}

impl Question {
    /// Names a request to `hosted` by all that its answer may depend on: two with the same `draw` and `seed` get the same answer.
    pub(crate) fn new(hosted: &Hosted, request: Request, seed: u64, draw: u64) -> anyhow::Result<Self> {
        let content = json!({ "target": hosted.identity(), "request": request, "seed": seed, "draw": draw });
        let digest = ContentHash::of_bytes(content.to_string().as_bytes()).to_string();
        Ok(Self { key: digest[..32].to_owned(), request })
    }
}

/// What was answered: a line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// The question's.
    pub(crate) key: String,
    /// The model that answered.
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) stop: StopReason,
    /// Tokens as the vendor counts them; `None` where it does not.
    pub(crate) input_tokens: Option<u64>,
    pub(crate) cached_input_tokens: Option<u64>,
    /// Reasoning included.
    pub(crate) output_tokens: Option<u64>,
    /// What it cost, where a price is known.
    pub(crate) cost_usd: Option<f64>,
    /// From the question to the whole answer, repeated attempts included.
    pub(crate) seconds: f64,
}

impl Answer {
    /// What `response` says to the question `key`, or why it says nothing.
    pub(crate) fn of(key: &str, response: &Response, cost_usd: Option<f64>, seconds: f64) -> Result<Self, Failure> {
        if matches!(response.stop.reason, StopReason::Error | StopReason::Incomplete) {
            let raw = response.stop.raw.as_deref().unwrap_or("no reason given");
            return Err(Failure { kind: "generation", message: format!("generating failed: {raw}"), is_final: false });
        }
        Ok(Self {
            key: key.to_owned(),
            model: response.model.clone(),
            text: response.text(),
            stop: response.stop.reason.clone(),
            input_tokens: response.usage.input,
            cached_input_tokens: response.usage.cached_input,
            output_tokens: response.usage.output,
            cost_usd,
            seconds,
        })
    }

    /// An answer for tests.
    #[cfg(test)]
    pub(crate) fn example(stop: StopReason) -> Self {
        Self {
            key: "key".to_owned(),
            model: "m".to_owned(),
            text: "text".to_owned(),
            stop,
            input_tokens: Some(3),
            cached_input_tokens: None,
            output_tokens: Some(5),
            cost_usd: Some(0.25),
            seconds: 0.5,
        }
    }

    /// Whether it was cut at the bound on tokens.
    pub(crate) fn is_cut(&self) -> bool {
        self.stop == StopReason::Length
    }

    /// Whether the model or its vendor declined.
    pub(crate) fn is_declined(&self) -> bool {
        self.stop == StopReason::ContentFilter
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// What it is counted as.
    pub(crate) kind: &'static str,
    /// One line.
    pub(crate) message: String,
    /// Whether every other question would fail the same way.
    pub(crate) is_final: bool,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let is_final = match error {
            Error::Configuration { .. } | Error::Unsupported { .. } | Error::BudgetSpent { .. } => true,
            error => error.api().is_some_and(|api| {
                use ApiErrorKind as Kind;
                matches!(api.kind, Kind::Authentication | Kind::PermissionDenied | Kind::NotFound | Kind::Quota)
            }),
        };
        Self { kind: error.kind(), message: one_line(&chain(error)), is_final }
    }
}

/// An error with its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let more = source.to_string();
        // What a message has said already is not said again.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
