//! Settings of an agent.

use krystal_phase::PhaseControllerConfig;
use serde::{Deserialize, Serialize};

use super::memory::MemoryConfig;
use super::set_point::SetPointConfig;
use super::tuner::TunerConfig;
use crate::error::{Error, Result, require};
use crate::step_size::StepSize;

/// How the agent learns; the update rules are those of [`ActionValues`](crate::ActionValues).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From the action that it takes next.
    Sarsa,
    /// From all actions as likely as it would take them: the default, for it has least variance and allows for exploration to come.
    #[default]
    ExpectedSarsa,
    /// From the best action: learns the best policy while another acts. With `lambda`, Watkins's.
    QLearning,
}

/// How values become an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// `pi(a|s) = exp(q(s, a) / T) / Z` at the temperature of the phase controller.
    #[default]
    Boltzmann,
    /// The best action, but for a share of random ones that the phase gives: 0.05, 0.2, 0.5, 0.9 from solid to plasma.
    PhaseRates,
}

/// Settings of an [`Agent`](crate::Agent). The defaults are the seed's (its appendix B); parts that it has and that cannot be of use without
/// knowing the task are off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// All draws follow from it. Default 0.
    pub seed: u64,
    /// Numbers in an observation. Default 8.
    pub state_dim: usize,
    /// Actions to choose from. Default 4.
    pub action_dim: usize,
    /// Adds a feature that is always 1, without which nothing could be learned where all observations are 0. Default true.
    pub bias: bool,
    /// Default Expected SARSA.
    pub method: Method,
    /// Default `Fixed(0.1)`: keeps following a world that changes.
    pub learning_rate: StepSize,
    /// Discount of a reward one step later, in `[0, 1]`. Default 0.95.
    pub gamma: f64,
    /// How slowly traces fade, in `[0, 1]`. Default 0, no traces.
    pub lambda: f64,
    /// Default Boltzmann.
    pub policy: Policy,
    /// The temperature, told the size of each TD error, the reward and the action values. Default: moving average with decay 0.9 of
    /// `|delta|`, `T_c = 0.5`. With the controller `Given` the temperature stays the initial one: phases are switched off. Rewards should be about 1 in size, for that is what temperatures are compared with.
    pub phase: PhaseControllerConfig,
    /// Steps kept to be learned from again. Default none.
    pub replay: Option<MemoryConfig>,
    /// A swarm that seeks better factors for learning rate and temperature while the agent works. Default none: windows of reward spent on
    /// trying bad factors are the price.
    pub swarm: Option<TunerConfig>,
    /// A PID controller that heats while the reward is below a set-point. Default none: only the user knows what reward is enough.
    pub set_point: Option<SetPointConfig>,
    /// Cycles between checkpoints, once [`Agent::checkpoint_to`](crate::Agent::checkpoint_to) has said where; at least 1. Default 100.
    pub checkpoint_every: u64,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            state_dim: 8,
            action_dim: 4,
            bias: true,
            method: Method::default(),
            learning_rate: StepSize::default(),
            gamma: 0.95,
            lambda: 0.0,
            policy: Policy::default(),
            phase: PhaseControllerConfig::default(),
            replay: None,
            swarm: None,
            set_point: None,
            checkpoint_every: 100,
        }
    }
}

impl AgentConfig {
    /// What [`ActionValues`](crate::ActionValues) and the parts do not judge themselves.
    pub(crate) fn validate(&self) -> Result<()> {
        require(
            self.state_dim > 0 && self.state_dim < 1 << 24,
            "state_dim",
            "from 1 to 2^24 - 1",
            self.state_dim as f64,
        )?;
        if self.action_dim == 0 {
            return Err(Error::NoActions);
        }
        require(self.checkpoint_every > 0, "checkpoint_every", "at least 1", 0.0)?;
        if self.replay.is_some() {
            require(self.lambda == 0.0, "lambda", "0 where steps are replayed", self.lambda)?;
            require(
                self.method != Method::Sarsa,
                "replay",
                "off for SARSA, which learns from its own next action",
                1.0,
            )?;
        }
        Ok(())
    }

    /// Features of the learner.
    pub(crate) fn n_features(&self) -> usize {
        self.state_dim + usize::from(self.bias)
    }
}
