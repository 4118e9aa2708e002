//! What a completion is worth.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::data::Prompt;

/// One completion to be judged.
#[derive(Debug, Clone)]
pub struct RewardInput<'a> {
    /// The prompt as it stands in the data.
    pub prompt: &'a Prompt,
    /// The completion's text, special tokens left out.
    pub completion: &'a str,
    /// The completion's tokens.
    pub tokens: &'a [u32],
    /// Whether the completion was cut at the length limit.
    pub truncated: bool,
    /// Most tokens a completion may have.
    pub max_completion_length: usize,
    /// Every other column of the data record.
    pub columns: &'a Map<String, Value>,
}

/// The verdict on one completion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reward {
    /// The score, or `None` to abstain (no verdict, as opposed to a wrong answer). Must be finite.
    pub score: Option<f64>,
    /// Why the function abstained, for the log.
    pub reason: Option<String>,
    /// Extra columns of the completions table.
    pub extra: BTreeMap<String, Value>,
}

impl Reward {
    /// A score with nothing beside it.
    pub fn score(score: f64) -> Self {
        Self { score: Some(score), ..Self::default() }
    }

    /// No verdict, and why.
    pub fn abstain(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::default() }
    }
}

/// A reward function could not be run at all; one completion without a verdict is [`Reward::abstain`] instead.
#[derive(Debug, thiserror::Error)]
#[error("reward `{name}` failed: {reason}")]
pub struct RewardError {
    /// The reward function's name.
    pub name: String,
    /// What happened, in one line.
    pub reason: String,
}

/// Judges completions.
///
/// # Contract
/// One reward per input, in order. The same inputs give the same rewards: nothing may depend on time, threads or the
/// other completions of the batch. Never panics on any completion text.
pub trait RewardFunction: fmt::Debug {
    /// The name in metrics (`rewards/<name>/mean`) and in the completions table.
    fn name(&self) -> &str;

    /// Scores a batch.
    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError>;
}
