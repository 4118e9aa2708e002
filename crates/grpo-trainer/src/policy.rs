//! The model being trained, as the trainer sees it.
//!
//! Letters: `N` sequences of a batch, `T[n]` completion tokens of sequence `n`.

use std::fmt;

pub use krystal_math::sampling::Sampling;
use serde::{Deserialize, Serialize};

/// One prompt to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptRequest {
    /// Prompt tokens, at least one.
    pub tokens: Vec<u32>,
    /// Completion `g` of this prompt draws from random stream `(seed, purpose, stream, g)`: what is drawn depends on
    /// nothing else, neither on the batch nor on threads.
    pub stream: u64,
    /// Who asks: a policy with layers of each agent's own answers with them. 0 where there is one agent.
    pub agent: u64,
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// Prompts; each is completed `num_generations` times.
    pub prompts: Vec<PromptRequest>,
    /// Completions per prompt (G).
    pub num_generations: usize,
    /// Most tokens of a completion.
    pub max_completion_length: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Seed of the draws.
    pub seed: u64,
    /// Whether the draws are those of training or of evaluation.
    pub purpose: krystal_math::rng::Purpose,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model emitted an end-of-sequence token (kept as the last token).
    EndOfSequence,
    /// A stop string appeared.
    Stop,
    /// `max_completion_length` was reached.
    Length,
}

/// One sampled completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Tokens, at least one, with the end-of-sequence token where there is one.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the sampling temperature, `(T)`.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A prompt and the completions of it to score. A policy may share the work of the prompt among them.
#[derive(Debug, Clone)]
pub struct ScoreGroup<'a> {
    /// Prompt tokens, at least one.
    pub prompt: &'a [u32],
    /// Completions, each at least one token.
    pub completions: Vec<&'a [u32]>,
    /// Whose they are, as in [`PromptRequest::agent`].
    pub agent: u64,
}

/// Per-token values of the completions of a list of groups, one vector per completion, groups in order: `N` vectors of
/// `T[n]` values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenScores {
    /// Log-probability of each completion token (nats), of logits divided by the temperature.
    pub log_probs: Vec<Vec<f32>>,
    /// Entropy of the distribution each completion token was drawn from (nats).
    pub entropy: Vec<Vec<f32>>,
}

/// Derivatives of the loss with respect to [`TokenScores`], in the same layout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenWeights {
    /// `dL / dlog_prob`.
    pub log_probs: Vec<Vec<f32>>,
    /// `dL / dentropy`; empty when the loss does not depend on the entropy.
    pub entropy: Vec<Vec<f32>>,
}

/// One trainable tensor: its values, and the gradient accumulated since it was last cleared.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// The tensor's name, unique within the policy.
    pub name: &'a str,
    /// Values, row-major.
    pub values: &'a mut [f32],
    /// Gradient, same length.
    pub gradient: &'a mut [f32],
}

/// What a policy that moves its own parameters is told of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRequest {
    /// The step, the first being 1.
    pub step: u64,
    /// The schedule's learning rate.
    pub learning_rate: f64,
    /// Norm to clip the gradient to; 0 clips nothing.
    pub max_grad_norm: f64,
}

/// What such a policy did in a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnStep {
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Norm of the change of the parameters.
    pub update_norm: f64,
    /// Further metrics of the step, by name.
    pub metrics: Vec<(String, f64)>,
    /// What happened: objects for `events.jsonl`, to which the trainer adds `step`.
    pub events: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// A trainable language model: the seam between the trainer and any model.
///
/// The trainer needs no automatic differentiation. It turns rewards into `dL/dlog_prob` (and `dL/dentropy`) of every
/// completion token, and the policy turns those into gradients of its parameters.
///
/// # Contract
/// - `generate`, `score` and `forward` see the parameters as of the last `publish`; changing values through
///   `parameters` has no effect on them until then.
/// - `generate` records the log-probabilities that `score` would return for the same tokens and temperature. The trainer
///   checks the first batch of a run and every checkpoint to `1e-5`.
/// - Results depend on the arguments alone: not on threads, batch composition or earlier calls.
/// - `backward` adds to the gradients; only the trainer clears them.
/// - Most policies hold still and let the trainer's AdamW move the values that `parameters` returns. A policy with dynamics of
///   its own says so by `moves_itself`: then `parameters` may be empty, and `step` takes the place of the optimiser, clears
///   the gradients and publishes. All that its next step depends on is in `state`.
pub trait Policy {
    /// What `forward` keeps for `backward`.
    type Tape;
    /// Why the model could not do what was asked.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Completes every prompt `num_generations` times: `prompts.len()` lists of `num_generations` completions.
    fn generate(&self, request: &GenerationRequest) -> Result<Vec<Vec<Completion>>, Self::Error>;

    /// Log-probability and entropy of every completion token.
    fn score(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<TokenScores, Self::Error>;

    /// As [`Policy::score`] for the reference model: the same model with the adapter off. `None` where the policy has no
    /// reference (all weights are trained and no copy was kept).
    fn score_reference(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<Option<TokenScores>, Self::Error>;

    /// As [`Policy::score`], keeping what `backward` needs.
    fn forward(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<(TokenScores, Self::Tape), Self::Error>;

    /// Adds to each parameter's gradient `sum_nt w[n][t] * dscore[n][t] / dparameter`.
    fn backward(&mut self, tape: Self::Tape, weights: &TokenWeights) -> Result<(), Self::Error>;

    /// Every trainable tensor, always in the same order.
    fn parameters(&mut self) -> Vec<Parameter<'_>>;

    /// Makes the current parameter values those that `generate`, `score` and `forward` use.
    fn publish(&mut self) -> Result<(), Self::Error>;

    /// Whether `step` moves the parameters instead of the trainer's optimiser.
    fn moves_itself(&self) -> bool {
        false
    }

    /// Moves the parameters along the accumulated gradients, clears those and publishes. Called only where
    /// [`Policy::moves_itself`].
    fn step(&mut self, request: &StepRequest) -> Result<OwnStep, Self::Error> {
        let _ = request;
        Ok(OwnStep::default())
    }

    /// All that a checkpoint needs besides the values of `parameters`: empty where there is nothing.
    fn state(&self) -> Result<Vec<u8>, Self::Error> {
        Ok(Vec::new())
    }

    /// Goes on from what [`Policy::state`] returned, and publishes.
    fn restore(&mut self, state: &[u8]) -> Result<(), Self::Error> {
        let _ = state;
        Ok(())
    }

    /// The text of tokens, special tokens left out.
    fn decode(&self, tokens: &[u32]) -> Result<String, Self::Error>;

    /// The tokens of a prompt: plain text, or a conversation through the chat template.
    fn encode_prompt(&self, prompt: &crate::data::Prompt) -> Result<Vec<u32>, Self::Error>;

    /// Writes what was trained (a PEFT adapter folder, or a model folder) to `directory`, created if missing.
    fn save(&self, directory: &std::path::Path) -> Result<(), Self::Error>;
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndOfSequence => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
        })
    }
}
