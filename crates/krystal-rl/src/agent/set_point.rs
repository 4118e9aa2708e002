//! A PID controller that heats while the reward is below what it should be.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require};
use crate::pid::{Pid, PidConfig};

/// Settings of the set-point; gains are the seed's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetPointConfig {
    /// The mean reward of the best known actions that is enough. A little below what can be reached: at or above it the controller would
    /// never rest. Default 0.
    pub reward: f64,
    /// Such actions that the mean looks back over, at least 1. Default 20.
    pub horizon: f64,
    /// Temperature at full effort, in critical temperatures, above 0. Default 1.5, where plasma begins.
    pub temperature: f64,
    /// Gain of the error. Default 1.
    pub kp: f64,
    /// Gain of its integral. Default 0.1.
    pub ki: f64,
    /// Gain of its derivative. Default 0.05.
    pub kd: f64,
}

impl Default for SetPointConfig {
    fn default() -> Self {
        let PidConfig { kp, ki, kd, .. } = PidConfig::default();
        Self { reward: 0.0, horizon: 20.0, temperature: 1.5, kp, ki, kd }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct SetPoint {
    config: SetPointConfig,
    pid: Pid,
    mean: Option<f64>,
    /// In `[0, 1]`.
    pub(crate) effort: f64,
}

impl SetPoint {
    pub(crate) fn new(config: SetPointConfig) -> Result<Self> {
        let SetPointConfig { reward, horizon, temperature, kp, ki, kd } = config;
        require(reward.is_finite(), "reward", "a finite number", reward)?;
        require(horizon >= 1.0 && horizon.is_finite(), "horizon", "a finite number of at least 1", horizon)?;
        require(temperature > 0.0 && temperature.is_finite(), "temperature", "a finite number above 0", temperature)?;
        let pid = Pid::new(PidConfig { kp, ki, kd, limits: Some((0.0, 1.0)), ..PidConfig::default() })?;
        Ok(Self { config, pid, mean: None, effort: 0.0 })
    }

    /// `greedy` says whether the action was the best known. Only such rewards count: exploring costs reward, and an effort that drove itself
    /// up by what it costs would never come down.
    pub(crate) fn reward(&mut self, reward: f64, greedy: bool) -> Result<()> {
        let mean = match self.mean {
            Some(mean) if greedy => mean + (reward - mean) / self.config.horizon,
            Some(mean) => mean,
            None if greedy => reward,
            None => return Ok(()),
        };
        self.effort = self.pid.update(self.config.reward, mean, 1.0)?;
        self.mean = Some(mean);
        Ok(())
    }

    /// The least temperature at this effort, in critical temperatures.
    pub(crate) fn least_temperature(&self) -> f64 {
        self.effort * self.config.temperature
    }

    /// # Errors
    /// [`Error::Inconsistent`] for a state that this configuration cannot have, as a file can hold it.
    pub(crate) fn validate(&self, config: SetPointConfig) -> Result<()> {
        let fresh = Self::new(config)?;
        let finite = self.pid.is_finite() && self.mean.is_none_or(f64::is_finite);
        let same = self.config == config && self.pid.config() == fresh.pid.config();
        if same && finite && (0.0..=1.0).contains(&self.effort) {
            Ok(())
        } else {
            Err(Error::Inconsistent { what: "the set-point and its controller" })
        }
    }
}
