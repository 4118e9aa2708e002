//! [`RewardFunction`] for the verifiers of `krystal-verify` (feature `verify`).

use krystal_verify::{Outcome, Sample, Verifier, WeightedReward};

use crate::data::Prompt;
use crate::reward::{Reward, RewardError, RewardFunction, RewardInput};

/// A verifier as a reward: its verdict is the score, its extra columns go to the completions table.
#[derive(Debug)]
pub struct VerifierReward {
    name: String,
    verifier: Box<dyn Verifier>,
}

impl VerifierReward {
    /// A verifier under its own name.
    pub fn new(verifier: Box<dyn Verifier>) -> Self {
        Self { name: verifier.name().to_owned(), verifier }
    }

    /// The rewards of a specification such as `math=1.0,calculator=0.2`, with their weights.
    ///
    /// # Errors
    /// Whatever is wrong with the specification, or with building one of its verifiers.
    pub fn from_spec(spec: &str) -> Result<Vec<(Self, f64)>, krystal_verify::Error> {
        krystal_verify::parse_rewards(spec)?
            .into_iter()
            .map(|WeightedReward { name, weight, reward, .. }| Ok((Self { name, verifier: reward.build()? }, weight)))
            .collect()
    }
}

impl RewardFunction for VerifierReward {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        let prompts: Vec<std::borrow::Cow<'_, str>> = inputs.iter().map(|i| text_of(i.prompt)).collect();
        let samples: Vec<Sample<'_>> = inputs
            .iter()
            .zip(&prompts)
            .map(|(input, prompt)| Sample {
                prompt,
                completion: input.completion,
                tokens: input.tokens,
                truncated: input.truncated,
                max_completion_length: input.max_completion_length,
                columns: input.columns,
            })
            .collect();
        let verdicts = self
            .verifier
            .verify_batch(&samples)
            .map_err(|error| RewardError { name: self.name.clone(), reason: chain(&error) })?;
        Ok(verdicts
            .into_iter()
            .map(|verdict| {
                let (score, reason) = match verdict.outcome {
                    Outcome::Score(score) => (Some(score), None),
                    Outcome::Abstain { reason } => (None, Some(reason)),
                };
                Reward { score, reason, extra: verdict.extra }
            })
            .collect())
    }
}

/// A prompt as text: of a conversation, the content of its last turn.
fn text_of(prompt: &Prompt) -> std::borrow::Cow<'_, str> {
    match prompt {
        Prompt::Text(text) => text.into(),
        Prompt::Messages(messages) => messages.last().map_or("", |m| m.content.as_str()).into(),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
