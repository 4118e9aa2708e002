//! The numbers of a run that are choices.

use anyhow::{Context, bail};

use super::stream::StreamKind;

/// Sizes of model, streams and adapters; `--set key=value` changes them, or a learner's own numbers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layers.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Steps that train the base model.
    pub base_steps: usize,
    /// Seed of the base model.
    pub base_seed: u64,
    /// Ranks of an adapter that serves one agent.
    pub rank: usize,
    /// Phases of the streams without repetition.
    pub phases: usize,
    /// Problems of a test.
    pub test: usize,
    /// Steps between two measurements within a phase.
    pub eval_every: usize,
    /// Agents of the stream that has several.
    pub agents: usize,
    /// Multiplies the steps of every phase.
    pub length: f64,
    others: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hidden: 128,
            intermediate: 256,
            layers: 2,
            heads: 4,
            base_steps: 3000,
            base_seed: 0,
            rank: 31,
            phases: 5,
            test: 64,
            eval_every: 10,
            agents: 8,
            length: 1.0,
            others: Vec::new(),
        }
    }
}

impl Settings {
    /// Steps of a phase.
    pub fn steps(&self, kind: StreamKind) -> usize {
        let steps = match kind {
            StreamKind::Arith | StreamKind::Strings => 80.0,
            StreamKind::Formal => 120.0,
            StreamKind::Recall => 60.0,
            StreamKind::Recurring => 30.0,
            StreamKind::Agents => 200.0,
        };
        ((steps * self.length) as usize).max(1)
    }

    /// Problems of a step, of each agent.
    pub fn batch(&self, kind: StreamKind) -> usize {
        match kind {
            StreamKind::Arith | StreamKind::Formal => 32,
            StreamKind::Recall => 32,
            StreamKind::Strings | StreamKind::Recurring => 16,
            StreamKind::Agents => 8,
        }
    }

    /// A run of seconds, to see that it works.
    pub fn shorten(&mut self) {
        self.base_steps = 300;
        self.phases = 3;
        self.test = 16;
        self.agents = 4;
        self.length = 0.25;
    }

    /// Takes one `key=value`.
    ///
    /// # Errors
    /// If there is no `=`, or a key of this structure has no number of its type.
    pub fn set(&mut self, assignment: &str) -> anyhow::Result<()> {
        let Some((key, value)) = assignment.split_once('=') else { bail!("expected key=value, found `{assignment}`") };
        let wrong = || format!("expected a number for `{key}`, found `{value}`");
        match key {
            "hidden" => self.hidden = value.parse().with_context(wrong)?,
            "intermediate" => self.intermediate = value.parse().with_context(wrong)?,
            "layers" => self.layers = value.parse().with_context(wrong)?,
            "heads" => self.heads = value.parse().with_context(wrong)?,
            "base_steps" => self.base_steps = value.parse().with_context(wrong)?,
            "base_seed" => self.base_seed = value.parse().with_context(wrong)?,
            "rank" => self.rank = value.parse().with_context(wrong)?,
            "phases" => self.phases = value.parse().with_context(wrong)?,
            "test" => self.test = value.parse().with_context(wrong)?,
            "eval_every" => self.eval_every = value.parse().with_context(wrong)?,
            "agents" => self.agents = value.parse().with_context(wrong)?,
            "length" => self.length = value.parse().with_context(wrong)?,
            _ => {
                self.others.retain(|(k, _)| k != key);
                self.others.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(())
    }

    /// A learner's own number, `default` where it was not set.
    ///
    /// # Errors
    /// If what was set is no number.
    pub fn number(&self, key: &str, default: f64) -> anyhow::Result<f64> {
        match self.others.iter().find(|(k, _)| k == key) {
            Some((_, value)) => {
                value.parse().with_context(|| format!("expected a number for `{key}`, found `{value}`"))
            }
            None => Ok(default),
        }
    }

    /// A learner's own word, `default` where it was not set.
    pub fn word<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.others.iter().find(|(k, _)| k == key).map_or(default, |(_, value)| value)
    }
}
