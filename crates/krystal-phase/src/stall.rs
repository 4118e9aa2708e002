//! Has the objective stopped improving?

use serde::{Deserialize, Serialize};

use crate::error::{Result, setting};

/// Mean and squared deviations of one window of ticks (Welford).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) n: u64,
    pub(crate) mean: f64,
    pub(crate) squares: f64,
}

impl Window {
    fn push(&mut self, x: f64) {
        self.n += 1;
        let from_old = x - self.mean;
        self.mean += from_old / self.n as f64;
        self.squares += from_old * (x - self.mean);
    }

    /// The squared standard error of the mean.
    fn error2(&self) -> f64 {
        self.squares / ((self.n - 1) as f64 * self.n as f64)
    }
}

/// Heats when the objective has measurably stopped improving.
///
/// The objective's mean over one window of `patience` ticks is compared with the window before: it improved if it fell by more than
/// `z` standard errors of the difference. If it did not, and is not at its `goal`, the temperature is raised to `temperature` and
/// from there falls by `decay` a tick until it meets the controller's own. Standard errors are those of independent values: an
/// objective with a long memory passes for improving more often than it should, so reheats come later, not sooner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReheatConfig {
    /// Ticks of a window, at least 2; default 100.
    pub patience: u64,
    /// Standard errors by which a mean must fall to count as better, at least 0; default 1.645, a false "better" in 20.
    pub z: f64,
    /// Where to, in units of the critical temperature, above 0; default 1.25, within the gas.
    pub temperature: f64,
    /// What remains of it after a tick, at least 0 and below 1; default 0.95.
    pub decay: f64,
    /// An objective that is good enough not to be disturbed.
    pub goal: Option<f64>,
}

impl Default for ReheatConfig {
    fn default() -> Self {
        Self { patience: 100, z: 1.645, temperature: 1.25, decay: 0.95, goal: None }
    }
}

impl ReheatConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        setting(self.patience >= 2, "reheat.patience", "at least 2", self.patience as f64)?;
        setting(self.z >= 0.0 && self.z.is_finite(), "reheat.z", "at least 0 and finite", self.z)?;
        let t = self.temperature;
        setting(t > 0.0 && t.is_finite(), "reheat.temperature", "above 0 and finite", t)?;
        setting((0.0..1.0).contains(&self.decay), "reheat.decay", "at least 0 and below 1", self.decay)?;
        self.goal.map_or(Ok(()), |goal| setting(goal.is_finite(), "reheat.goal", "finite", goal))
    }
}

/// Two windows of the objective.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Stall {
    pub(crate) before: Option<Window>,
    pub(crate) now: Window,
}

impl Stall {
    /// Takes one objective; `true` if it closes a window that is no better than the one before.
    pub(crate) fn push(&mut self, config: &ReheatConfig, objective: f64) -> bool {
        self.now.push(objective);
        if self.now.n < config.patience {
            return false;
        }
        let now = std::mem::take(&mut self.now);
        let Some(before) = self.before.replace(now) else { return false };
        let improved = before.mean - now.mean > config.z * (before.error2() + now.error2()).sqrt();
        !improved && config.goal.is_none_or(|goal| now.mean > goal)
    }
}
