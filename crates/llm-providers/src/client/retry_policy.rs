//! When to try again, and how long to wait.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;
use crate::error::Error;

/// How failed calls are repeated. What is repeated is fixed, as in the vendors' own clients: see
/// [`Error::is_retryable`](crate::Error::is_retryable).
///
/// The wait before retry `n` (from 0) is what the server says, where it says more than nothing and at most
/// [`longest_hint`](Self::longest_hint); else `min(first_delay * 2^n, longest_delay) * (1 - jitter * u)` with `u` uniform in `[0, 1)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often a call is repeated at most. Default: 2, as in the clients of OpenAI and Anthropic.
    pub max_retries: u32,
    /// The first wait, in seconds in files. Default: 0.5 s.
    #[serde(rename = "first_delay_s", with = "seconds")]
    pub first_delay: Duration,
    /// The longest wait of our own, in seconds in files. Default: 8 s.
    #[serde(rename = "longest_delay_s", with = "seconds")]
    pub longest_delay: Duration,
    /// How much of a wait of our own is random, 0 to 1. Default: 0.25.
    pub jitter: f64,
    /// The longest wait that a server may ask for, in seconds in files. Default: 60 s.
    #[serde(rename = "longest_hint_s", with = "seconds")]
    pub longest_hint: Duration,
    /// What to do where a server asks for more.
    pub on_long_hint: OnLongHint,
    /// Seed of the jitter. Default: none, which takes the time and the process, so that clients do not wait in step.
    pub seed: Option<u64>,
}

/// What to do where a server asks for a longer wait than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLongHint {
    /// Give up at once: it would refuse an earlier attempt.
    GiveUp,
    /// Wait as if it had said nothing.
    OwnDelay,
}

impl Default for RetryPolicy {
    /// [`RetryPolicy::anthropic`].
    fn default() -> Self {
        Self {
            max_retries: 2,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(8),
            jitter: 0.25,
            longest_hint: Duration::from_secs(60),
            on_long_hint: OnLongHint::OwnDelay,
            seed: None,
        }
    }
}

impl RetryPolicy {
    /// The rules of openai-python: waits of up to 120 s are honoured, longer ones end the call.
    pub fn openai() -> Self {
        Self { longest_hint: Duration::from_secs(120), on_long_hint: OnLongHint::GiveUp, ..Self::default() }
    }

    /// The rules of anthropic-sdk-python: waits of up to 60 s are honoured, longer ones ignored.
    pub fn anthropic() -> Self {
        Self::default()
    }

    /// For Gemini. Google's client repeats nothing unless told to; this repeats as the others do, because Gemini's limits are per
    /// minute and its errors say how many seconds are left. A longer wait than a minute is a daily limit, and ends the call.
    pub fn gemini() -> Self {
        Self { on_long_hint: OnLongHint::GiveUp, ..Self::default() }
    }

    /// No retries.
    pub fn none() -> Self {
        Self { max_retries: 0, ..Self::default() }
    }

    /// The rules for a provider, by [`LlmProvider::name`](crate::LlmProvider::name). Compatible servers have no client of their own:
    /// they, and unknown names, get the default.
    pub fn of_provider(name: &str) -> Self {
        match name {
            "openai" => Self::openai(),
            "anthropic" => Self::anthropic(),
            "gcp.gemini" | "gemini" => Self::gemini(),
            _ => Self::default(),
        }
    }

    /// With a bound on retries.
    #[must_use]
    pub fn with_max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// With a seed of the jitter.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How long to wait after `error`, the `retries` retries before it not counted; `u` is uniform in `[0, 1)`. `None`: give up.
    pub(super) fn delay(&self, error: &Error, retries: u32, u: f64) -> Option<Duration> {
        match error.retry_after() {
            Some(hint) if hint > self.longest_hint && self.on_long_hint == OnLongHint::GiveUp => None,
            Some(hint) if !hint.is_zero() && hint <= self.longest_hint => Some(hint),
            _ => {
                let growth = 2_f64.powi(retries.min(1000) as i32);
                let delay = (self.first_delay.as_secs_f64() * growth).min(self.longest_delay.as_secs_f64());
                Some(Duration::try_from_secs_f64(delay * (1.0 - self.jitter * u)).unwrap_or(self.longest_delay))
            }
        }
    }
}
