//! The task of the tests: answer a letter with the one three further on, and nothing else (`a` -> `d`, `b` -> `e`, `c` -> `f`).
//! Prompts and answers share no letter, so that a table of bigrams can hold the solution.

use grpo_trainer::config::GrpoConfig;
use grpo_trainer::data::{Prompt, Record};
use grpo_trainer::policy::Sampling;
use grpo_trainer::reward::{Reward, RewardError, RewardFunction, RewardInput};
use grpo_trainer::{EvaluateConfig, GrpoTrainer, evaluate};
use serde_json::{Map, json};

use crate::bigram::Bigram;

/// Twelve records: every prompt four times.
pub(crate) fn records() -> Vec<Record> {
    (0..12_u8)
        .map(|i| {
            let letter = |i: u8| char::from(b'a' + i).to_string();
            let mut columns = Map::new();
            columns.insert("answer".into(), json!(letter(i % 3 + 3)));
            Record { prompt: Prompt::Text(letter(i % 3)), columns }
        })
        .collect()
}

/// 1 for the answer alone, 0 otherwise.
#[derive(Debug)]
pub(crate) struct Exact;

impl RewardFunction for Exact {
    fn name(&self) -> &str {
        "exact"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        Ok(inputs.iter().map(|i| Reward::score(f64::from(i.columns["answer"] == i.completion))).collect())
    }
}

/// Shorter is better; abstains from completions that begin with `c`, saying why.
#[derive(Debug)]
pub(crate) struct Brief;

impl RewardFunction for Brief {
    fn name(&self) -> &str {
        "brief"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        let judge = |input: &RewardInput<'_>| match input.completion.starts_with('c') {
            true => Reward::abstain("begins with c"),
            false => {
                let mut reward = Reward::score(1.0 - input.tokens.len() as f64 / 4.0);
                reward.extra.insert("length".into(), json!(input.tokens.len()));
                reward
            }
        };
        Ok(inputs.iter().map(judge).collect())
    }
}

/// The share of one letter among the completion's tokens.
#[derive(Debug)]
#[cfg(feature = "lm")]
pub(crate) struct Letters(pub(crate) char);

#[cfg(feature = "lm")]
impl RewardFunction for Letters {
    fn name(&self) -> &str {
        "letters"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        let share = |i: &RewardInput<'_>| i.completion.matches(self.0).count() as f64 / i.tokens.len() as f64;
        Ok(inputs.iter().map(|i| Reward::score(share(i))).collect())
    }
}

/// The same for everyone.
#[derive(Debug)]
pub(crate) struct Constant(pub(crate) f64);

impl RewardFunction for Constant {
    fn name(&self) -> &str {
        "constant"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        Ok(vec![Reward::score(self.0); inputs.len()])
    }
}

pub(crate) fn config() -> GrpoConfig {
    GrpoConfig {
        max_steps: Some(6),
        prompts_per_step: 4,
        num_generations: 6,
        max_completion_length: 4,
        learning_rate: 0.1,
        checkpoint_every: 1,
        keep_checkpoints: 3,
        ..GrpoConfig::default()
    }
}

pub(crate) fn rewards() -> Vec<Box<dyn RewardFunction>> {
    vec![Box::new(Exact), Box::new(Brief)]
}

pub(crate) fn trainer(config: GrpoConfig) -> GrpoTrainer<Bigram> {
    GrpoTrainer::new(config, Bigram::new(), rewards(), records()).unwrap()
}

/// Share of sampled completions that are right.
pub(crate) fn accuracy(policy: &Bigram) -> f64 {
    let config = EvaluateConfig {
        num_samples: 50,
        sampling: Sampling::default(),
        max_completion_length: 4,
        batch_prompts: 5,
        ..EvaluateConfig::default()
    };
    evaluate(policy, &records(), &Exact, &config, &mut |_| {}).unwrap().pass(1).unwrap().value
}
