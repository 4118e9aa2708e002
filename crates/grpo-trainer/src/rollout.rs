//! Rollouts: completions of a batch of prompts, their rewards and their advantages.

use krystal_math::rng::Purpose;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::advantage::{Advantages, compute_advantages};
use crate::config::GrpoConfig;
use crate::data::{Prompt, Record};
use crate::error::Error;
use crate::metrics::{StepMetrics, number};
use crate::policy::{Completion, Finish, GenerationRequest, Policy, PromptRequest, ScoreGroup};
use crate::reward::{Reward, RewardFunction, RewardInput};

/// A sampled completion and what training needs of it. Token-wise values have one entry per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutSequence {
    /// Completion tokens.
    pub tokens: Vec<u32>,
    /// Log-probabilities recorded while sampling.
    pub sampling_log_probs: Vec<f32>,
    /// Whether the completion takes part in the loss.
    pub counts: bool,
    /// How much better it is than the others of its prompt.
    pub advantage: f64,
    /// Log-probabilities under the parameters it was generated with; `None` while those are the parameters still.
    pub old_log_probs: Option<Vec<f32>>,
    /// Log-probabilities under the reference model, once they were needed.
    pub reference_log_probs: Option<Vec<f32>>,
    /// Whether a forward pass compared the sampling log-probabilities already.
    pub is_checked: bool,
}

/// A prompt and its completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutGroup {
    /// Prompt tokens.
    pub prompt: Vec<u32>,
    /// Whose prompt it is.
    pub agent: u64,
    /// Completions, `num_generations` of them.
    pub sequences: Vec<RolloutSequence>,
}

impl RolloutGroup {
    /// The group as the policy takes it.
    pub fn to_score(&self) -> ScoreGroup<'_> {
        let completions = self.sequences.iter().map(|s| &s.tokens[..]).collect();
        ScoreGroup { prompt: &self.prompt, completions, agent: self.agent }
    }
}

/// A generation: what is learned from until the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Groups in the order of the prompts.
    pub groups: Vec<RolloutGroup>,
    /// Completion tokens that take part in the loss (TRL's `num_items_in_batch`).
    pub num_items: usize,
    /// The temperature that it was sampled at, and is scored at.
    pub temperature: f32,
}

/// Whether a completion takes part in the loss.
pub fn completion_counts(truncated: bool, mask_truncated_completions: bool) -> bool {
    !(truncated && mask_truncated_completions)
}

/// A rollout with what is logged about it.
#[derive(Debug)]
pub(crate) struct Generated {
    pub(crate) rollout: Rollout,
    pub(crate) metrics: StepMetrics,
    /// Lines of `completions.jsonl`.
    pub(crate) lines: Vec<String>,
    pub(crate) has_signal: bool,
    pub(crate) n_tokens: u64,
}

/// Completes `chosen` records, judges the completions and computes their advantages.
///
/// `generation` counts the generations of the run; it addresses the random streams.
pub(crate) fn generate<P: Policy>(
    policy: &P,
    config: &GrpoConfig,
    rewards: &[Box<dyn RewardFunction>],
    chosen: &[&Record],
    temperature: f32,
    (generation, step): (u64, u64),
) -> Result<Generated, Error> {
    let prompts = encode_prompts(policy, chosen, generation * chosen.len() as u64)?;
    let request = GenerationRequest {
        prompts,
        num_generations: config.num_generations,
        max_completion_length: config.max_completion_length,
        sampling: config.sampling(temperature),
        seed: config.seed,
        purpose: Purpose::Rollout,
    };
    let completions = policy.generate(&request).map_err(Error::policy("generate"))?;
    check_completions(&request, &completions)?;
    let texts = decode(policy, &completions)?;
    let inputs = reward_inputs(chosen, &completions, &texts, config.max_completion_length);
    let table = rewards.iter().map(|f| judge(f.as_ref(), &inputs)).collect::<Result<Vec<_>, Error>>()?;
    let scores: Vec<Vec<Option<f64>>> =
        (0..inputs.len()).map(|n| table.iter().map(|column| column[n].score).collect()).collect();
    let weights = config.reward_weights.clone().unwrap_or_else(|| vec![1.0; rewards.len()]);
    let advantages = compute_advantages(
        &scores,
        &weights,
        config.num_generations,
        config.scale_rewards,
        config.multi_objective_aggregation,
    );

    let mut metrics = StepMetrics::new(step);
    push_length_metrics(&mut metrics, completions.iter().flatten());
    push_reward_metrics(&mut metrics, rewards, &advantages);
    let lines = if config.log_completions {
        completion_lines(step, rewards, &inputs, &completions, &table, &advantages)
    } else {
        Vec::new()
    };
    let n_tokens = request.prompts.iter().map(|p| p.tokens.len() * config.num_generations).sum::<usize>()
        + completions.iter().flatten().map(|c| c.tokens.len()).sum::<usize>();
    let has_signal = advantages.values.iter().any(|a| a.abs() > 1e-12);
    let rollout = assemble(config, request, completions, &advantages.values);
    Ok(Generated { rollout, metrics, lines, has_signal, n_tokens: n_tokens as u64 })
}

fn assemble(
    config: &GrpoConfig,
    request: GenerationRequest,
    completions: Vec<Vec<Completion>>,
    advantages: &[f64],
) -> Rollout {
    let temperature = request.sampling.temperature;
    let mut advantages = advantages.iter();
    let groups: Vec<RolloutGroup> = request
        .prompts
        .into_iter()
        .zip(completions)
        .map(|(prompt, group)| RolloutGroup {
            prompt: prompt.tokens,
            agent: prompt.agent,
            sequences: group
                .into_iter()
                .zip(advantages.by_ref())
                .map(|(completion, &advantage)| RolloutSequence {
                    counts: completion_counts(completion.finish == Finish::Length, config.mask_truncated_completions),
                    tokens: completion.tokens,
                    sampling_log_probs: completion.log_probs,
                    advantage,
                    old_log_probs: None,
                    reference_log_probs: None,
                    is_checked: false,
                })
                .collect(),
        })
        .collect();
    let num_items = groups.iter().flat_map(|g| &g.sequences).filter(|s| s.counts).map(|s| s.tokens.len()).sum();
    Rollout { groups, num_items, temperature }
}

/// Checks that reward functions can be told apart and have a weight each.
pub(crate) fn check_rewards(config: &GrpoConfig, rewards: &[Box<dyn RewardFunction>]) -> Result<(), Error> {
    let error = |key, expected: &str, got: String| Err(Error::Config { key, expected: expected.to_string(), got });
    if rewards.is_empty() {
        return error("rewards", "at least one reward function", "none".into());
    }
    for (i, reward) in rewards.iter().enumerate() {
        if rewards[..i].iter().any(|other| other.name() == reward.name()) {
            return error("rewards", "reward functions of different names", format!("`{}` twice", reward.name()));
        }
        if ["step", "prompt", "completion", "advantage", "finish"].contains(&reward.name()) {
            return error("rewards", "a name that is no column of its own", format!("`{}`", reward.name()));
        }
    }
    match &config.reward_weights {
        Some(weights) if weights.len() != rewards.len() => {
            error("reward_weights", &format!("{} weights, one per reward", rewards.len()), weights.len().to_string())
        }
        _ => Ok(()),
    }
}

/// The tokens of the prompts of `records`, each drawing from the stream after that of the one before, from `first_stream` on.
pub(crate) fn encode_prompts<P: Policy>(
    policy: &P,
    records: &[&Record],
    first_stream: u64,
) -> Result<Vec<PromptRequest>, Error> {
    let encode = |(stream, record): (u64, &&Record)| {
        let tokens = policy.encode_prompt(&record.prompt).map_err(Error::policy("encode a prompt"))?;
        if tokens.is_empty() {
            let expected = "at least one token of a prompt".to_string();
            let got = format!("none of {}", prompt_value(&record.prompt));
            return Err(Error::PolicyShape { call: "encode_prompt", expected, got });
        }
        Ok(PromptRequest { tokens, stream, agent: record.agent() })
    };
    (first_stream..).zip(records).map(encode).collect()
}

/// Checks that the policy returned as many completions as it was asked for, none of them empty.
pub(crate) fn check_completions(request: &GenerationRequest, completions: &[Vec<Completion>]) -> Result<(), Error> {
    let shape = |expected: String, got: String| Err(Error::PolicyShape { call: "generate", expected, got });
    if completions.len() != request.prompts.len() {
        return shape(format!("{} lists of completions", request.prompts.len()), completions.len().to_string());
    }
    for group in completions {
        if group.len() != request.num_generations {
            return shape(format!("{} completions of a prompt", request.num_generations), group.len().to_string());
        }
        for c in group {
            if c.tokens.is_empty() || c.tokens.len() > request.max_completion_length {
                let expected = format!("completions of 1 to {} tokens", request.max_completion_length);
                return shape(expected, format!("one of {}", c.tokens.len()));
            }
            if c.log_probs.len() != c.tokens.len() {
                let expected = format!("{} log-probabilities of a completion", c.tokens.len());
                return shape(expected, c.log_probs.len().to_string());
            }
        }
    }
    Ok(())
}

/// The texts of completions, in order.
pub(crate) fn decode<P: Policy>(policy: &P, completions: &[Vec<Completion>]) -> Result<Vec<String>, Error> {
    let texts = completions.iter().flatten().map(|c| policy.decode(&c.tokens));
    texts.collect::<Result<_, _>>().map_err(Error::policy("decode a completion"))
}

/// What reward functions get, one input per completion in order.
pub(crate) fn reward_inputs<'a>(
    records: &[&'a Record],
    completions: &'a [Vec<Completion>],
    texts: &'a [String],
    max_completion_length: usize,
) -> Vec<RewardInput<'a>> {
    let with_records =
        records.iter().zip(completions).flat_map(|(&record, group)| group.iter().map(move |c| (record, c)));
    with_records
        .zip(texts)
        .map(|((record, completion), text)| RewardInput {
            prompt: &record.prompt,
            completion: text,
            tokens: &completion.tokens,
            truncated: completion.finish == Finish::Length,
            max_completion_length,
            columns: &record.columns,
        })
        .collect()
}

/// Runs one reward function and checks that it kept its contract.
pub(crate) fn judge(function: &dyn RewardFunction, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, Error> {
    let rewards = function.score(inputs)?;
    let name = || function.name().to_string();
    if rewards.len() != inputs.len() {
        return Err(Error::RewardCount { name: name(), expected: inputs.len(), got: rewards.len() });
    }
    match rewards.iter().filter_map(|r| r.score).find(|score| !score.is_finite()) {
        Some(score) => Err(Error::RewardNotFinite { name: name(), score }),
        None => Ok(rewards),
    }
}

/// Lengths of completions under TRL's names; `terminated` are those that ended by themselves (0 where none did).
pub(crate) fn push_length_metrics<'a>(metrics: &mut StepMetrics, completions: impl Iterator<Item = &'a Completion>) {
    let (mut all, mut terminated) = (Vec::new(), Vec::new());
    for completion in completions {
        all.push(completion.tokens.len() as f64);
        if completion.finish != Finish::Length {
            terminated.push(completion.tokens.len() as f64);
        }
    }
    let clipped = (all.len() - terminated.len()) as f64 / all.len().max(1) as f64;
    if terminated.is_empty() {
        terminated.push(0.0);
    }
    for (infix, lengths) in [("", &all), ("terminated_", &terminated)] {
        let least = lengths.iter().copied().fold(f64::INFINITY, f64::min);
        let most = lengths.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        metrics.push(format!("completions/mean_{infix}length"), Some(krystal_math::statistics::mean(lengths)));
        metrics.push(format!("completions/min_{infix}length"), Some(least));
        metrics.push(format!("completions/max_{infix}length"), Some(most));
        if infix.is_empty() {
            metrics.push("completions/clipped_ratio", Some(clipped));
        }
    }
}

fn push_reward_metrics(metrics: &mut StepMetrics, rewards: &[Box<dyn RewardFunction>], advantages: &Advantages) {
    for (f, function) in rewards.iter().enumerate() {
        metrics.push(format!("rewards/{}/mean", function.name()), advantages.function_mean[f]);
        metrics.push(format!("rewards/{}/std", function.name()), advantages.function_std[f]);
    }
    metrics.push("reward", advantages.reward);
    metrics.push("reward_std", advantages.reward_std);
    metrics.push("frac_reward_zero_std", Some(advantages.frac_reward_zero_std));
}

/// The completions table: step, prompt, completion, one column per reward, extra columns, advantage, finish.
fn completion_lines(
    step: u64,
    functions: &[Box<dyn RewardFunction>],
    inputs: &[RewardInput<'_>],
    completions: &[Vec<Completion>],
    table: &[Vec<Reward>],
    advantages: &Advantages,
) -> Vec<String> {
    let line = |(n, (input, completion)): (usize, (&RewardInput<'_>, &Completion))| {
        let mut row = Map::new();
        row.insert("step".into(), step.into());
        row.insert("prompt".into(), prompt_value(input.prompt));
        row.insert("completion".into(), input.completion.into());
        for (function, column) in functions.iter().zip(table) {
            row.insert(function.name().into(), number(column[n].score));
        }
        for (function, column) in functions.iter().zip(table) {
            let reason = column[n].reason.iter().map(|reason| ("reason", Value::from(reason.as_str())));
            let extra = column[n].extra.iter().map(|(key, value)| (key.as_str(), value.clone()));
            for (key, value) in extra {
                // Two rewards may name a column alike, and none may replace ours.
                let taken = row.contains_key(key) || key == "advantage" || key == "finish";
                let key = if taken { format!("{}/{key}", function.name()) } else { key.to_string() };
                row.insert(key, value);
            }
            for (key, value) in reason {
                row.insert(format!("{}/{key}", function.name()), value);
            }
        }
        row.insert("advantage".into(), number(Some(advantages.values[n])));
        row.insert("finish".into(), completion.finish.to_string().into());
        Value::Object(row).to_string()
    };
    inputs.iter().zip(completions.iter().flatten()).enumerate().map(line).collect()
}

fn prompt_value(prompt: &Prompt) -> Value {
    match prompt {
        Prompt::Text(text) => text.as_str().into(),
        Prompt::Messages(messages) => messages
            .iter()
            .map(|m| serde_json::json!({"role": m.role, "content": m.content}))
            .collect::<Vec<_>>()
            .into(),
    }
}
