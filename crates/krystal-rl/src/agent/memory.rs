//! The agent's replay.

use krystal_math::rng::SplitMix64;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require};
use crate::replay::{Batch, PrioritizedConfig, PrioritizedReplay, Transition, UniformReplay};

/// Settings of the agent's replay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Steps kept, at least 1. Default 10,000.
    pub capacity: usize,
    /// Steps learned from again after each new one, from 1 to the capacity. Default 8.
    pub batch: usize,
    /// Priorities; `None` draws all alike. Default the paper's.
    pub prioritized: Option<PrioritizedConfig>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { capacity: 10_000, batch: 8, prioritized: Some(PrioritizedConfig::default()) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Memory {
    Uniform(UniformReplay<f64>),
    Prioritized(PrioritizedReplay<f64>),
}

impl Memory {
    pub(crate) fn new(config: MemoryConfig, dim: usize) -> Result<Self> {
        require(
            config.batch > 0 && config.batch <= config.capacity,
            "batch",
            "from 1 to the capacity",
            config.batch as f64,
        )?;
        Ok(match config.prioritized {
            None => Self::Uniform(UniformReplay::new(dim, config.capacity)?),
            Some(prioritized) => Self::Prioritized(PrioritizedReplay::new(dim, config.capacity, prioritized)?),
        })
    }

    pub(crate) fn push(&mut self, step: &Transition<'_, f64>) -> Result<()> {
        match self {
            Self::Uniform(replay) => replay.push(step),
            Self::Prioritized(replay) => replay.push(step),
        }
        .map(|_| ())
    }

    pub(crate) fn sample(&self, n: usize, rng: &mut SplitMix64, batch: &mut Batch<f64>) -> Result<()> {
        match self {
            Self::Uniform(replay) => replay.sample(n, rng, batch),
            Self::Prioritized(replay) => replay.sample(n, rng, batch),
        }
    }

    pub(crate) fn update(&mut self, indices: &[usize], errors: &[f64]) -> Result<()> {
        match self {
            Self::Uniform(_) => Ok(()),
            Self::Prioritized(replay) => replay.update(indices, errors),
        }
    }

    /// # Errors
    /// [`Error::Inconsistent`] for parts that do not fit each other, as a file can hold them.
    pub(crate) fn validate(&self, config: MemoryConfig, dim: usize) -> Result<()> {
        match self {
            Self::Uniform(replay) if config.prioritized.is_none() => replay.validate(dim, config.capacity),
            Self::Prioritized(replay) if config.prioritized.is_some() => replay.validate(dim, config.capacity),
            _ => Err(Error::Inconsistent { what: "kind of the replay buffer" }),
        }
    }
}
