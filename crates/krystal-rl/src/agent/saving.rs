//! Checkpoints of an agent.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Agent, AgentConfig, Stage, State, learner_config};
use crate::error::{Error, Result, require_finite};

const KIND: &str = "agent";
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Saving<'a> {
    config: &'a AgentConfig,
    state: &'a State,
}

#[derive(Deserialize)]
struct Saved {
    config: AgentConfig,
    state: State,
}

impl Agent {
    /// From now on [`tick`](Self::tick) writes a checkpoint to `path` every `checkpoint_every` cycles.
    pub fn checkpoint_to(&mut self, path: impl Into<PathBuf>) {
        self.path = Some(path.into());
    }

    /// Goes back to the last checkpoint at the path of [`checkpoint_to`](Self::checkpoint_to).
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`] without a path or a file there, [`Error::Checkpoint`] for a file that is not whole,
    /// [`Error::Inconsistent`] for that of an agent with other settings; the agent is then as it was.
    pub fn recover(&mut self) -> Result<()> {
        let path = self.path.clone().ok_or(Error::NoCheckpoint)?;
        let agent = match Self::load(&path) {
            Err(Error::Checkpoint { source, .. }) if source.is_not_found() => return Err(Error::NoCheckpoint),
            loaded => loaded?,
        };
        if agent.config != self.config {
            return Err(Error::Inconsistent { what: "the checkpoint is of an agent with other settings" });
        }
        *self = Self { path: Some(path), ..agent };
        Ok(())
    }

    /// Writes everything: weights, traces, replay, priorities, temperature, integral, swarm, counts of draws.
    ///
    /// # Errors
    /// [`Error::Checkpoint`]; the file before is then as it was.
    pub fn save(&self, path: &Path) -> Result<()> {
        let saving = Saving { config: &self.config, state: &self.state };
        krystal_checkpoint::save(path, KIND, VERSION, &saving)
            .map_err(|source| Error::Checkpoint { action: "saved", source })
    }

    /// Reads what [`save`](Self::save) wrote; goes on as the one that was saved, bit for bit.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is not whole or not an agent's, [`Error::Inconsistent`] for one whose parts do not fit each other.
    pub fn load(path: &Path) -> Result<Self> {
        let saved: Saved = krystal_checkpoint::load(path, KIND, VERSION)
            .map_err(|source| Error::Checkpoint { action: "loaded", source })?;
        saved.state.validate(&saved.config)?;
        Ok(Self::with_state(saved.config, saved.state))
    }

    /// What [`save`](Self::save) would write, for agents inside another state.
    ///
    /// # Errors
    /// None that an agent could cause.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let saving = Saving { config: &self.config, state: &self.state };
        krystal_checkpoint::to_bytes(KIND, VERSION, &saving)
            .map_err(|source| Error::Checkpoint { action: "saved", source })
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let saved: Saved = krystal_checkpoint::from_bytes(bytes, KIND, VERSION)
            .map_err(|source| Error::Checkpoint { action: "loaded", source })?;
        saved.state.validate(&saved.config)?;
        Ok(Self::with_state(saved.config, saved.state))
    }

    pub(super) fn save_checkpoint(&mut self) -> Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let before = std::mem::replace(&mut self.state.last_saved, self.state.cycle);
        self.save(&path).inspect_err(|_| self.state.last_saved = before)
    }
}

impl State {
    /// Whether a file holds what an agent of this configuration can have become.
    fn validate(&self, config: &AgentConfig) -> Result<()> {
        // Sizes first, against what the file really has: a setting alone must not make us take memory.
        config.validate()?;
        let dim = config.n_features();
        self.learner.validate()?;
        let mut expected = learner_config(config);
        expected.step_size = self.learner.config().step_size;
        let same_learner = *self.learner.config() == expected
            && (self.learner.dim(), self.learner.n_actions()) == (dim, config.action_dim);
        require(same_learner, "the learner and the configuration")?;
        let tuned = self.tuner.is_some() || expected.step_size == config.learning_rate;
        require(tuned, "the step size and the configuration")?;
        require(*self.phase.config() == config.phase, "the phase controller and the configuration")?;
        let shape = self.now.len() == dim && self.here.len() == dim && self.places.len() <= config.state_dim;
        require(shape, "the observation and the configuration")?;
        require_finite("number of the observation", &self.now)?;
        require_finite("number of the observation", &self.here)?;
        let counts = [self.cycle, self.decisions, self.replays, self.last_saved];
        require(counts.iter().all(|n| *n < 1 << 50), "counts of cycles and draws")?;
        require_finite("mean reward and error", &[self.mean_reward, self.error])?;
        match self.step {
            Stage::None => {}
            Stage::Decided { action, .. } => require(action < config.action_dim, "the action")?,
            Stage::Rewarded { action, reward, .. } => {
                require(action < config.action_dim && reward.is_finite(), "the action and its reward")?;
            }
        }
        match (&self.memory, config.replay) {
            (Some(memory), Some(replay)) => memory.validate(replay, dim)?,
            (memory, replay) => require(memory.is_none() && replay.is_none(), "the replay and the configuration")?,
        }
        match (&self.tuner, config.swarm) {
            (Some(tuner), Some(swarm)) => tuner.validate(swarm, dim * config.action_dim, &config.phase)?,
            (tuner, swarm) => require(tuner.is_none() && swarm.is_none(), "the swarm and the configuration")?,
        }
        match (&self.set_point, config.set_point) {
            (Some(set_point), Some(config)) => set_point.validate(config)?,
            (set_point, config) => {
                require(set_point.is_none() && config.is_none(), "the set-point and the configuration")?;
            }
        }
        // Refuses settings that no agent has.
        Agent::new(config.clone()).map(|_| ())
    }
}

fn require(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Inconsistent { what }) }
}
