//! Where one regime of data ends and the next begins, without being told.

use serde::{Deserialize, Serialize};

use crate::Error;

/// Settings of [`RegimeDetector`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RegimeConfig {
    /// Whether regimes are detected. Default true. Off, [`LoraHierarchy::consolidate`](crate::LoraHierarchy::consolidate) is
    /// the only way to end one.
    pub enabled: bool,
    /// A regime ends when the gradient's norm rises this many times above its running level, > 1. Default 3.
    pub jump: f64,
    /// Ticks that a regime lasts at least. Default 20.
    pub least_ticks: u64,
    /// Ticks over which the present norm is averaged (EMA). Default 2.
    pub present_ticks: f64,
    /// Ticks over which the running level is averaged (EMA). Default 10.
    pub level_ticks: f64,
}

impl Default for RegimeConfig {
    fn default() -> Self {
        Self { enabled: true, jump: 3.0, least_ticks: 20, present_ticks: 2.0, level_ticks: 10.0 }
    }
}

impl RegimeConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Field`] names the first that cannot be.
    pub fn validate(&self) -> Result<(), Error> {
        if !(self.jump > 1.0 && self.jump.is_finite()) {
            return Err(Error::field("jump", "a finite number above 1", self.jump));
        }
        for (name, ticks) in [("present_ticks", self.present_ticks), ("level_ticks", self.level_ticks)] {
            if !(ticks >= 1.0 && ticks.is_finite()) {
                return Err(Error::field(name, "a finite number of at least 1", ticks));
            }
        }
        Ok(())
    }
}

/// Watches the norm of the gradient. A learner that has settled has small gradients; when the data changes they jump.
///
/// Where gradients never settle (a noisy reward) they never jump either, and nothing is detected: learning then is what it
/// would be without regimes.
#[derive(Debug, Clone, PartialEq)]
pub struct RegimeDetector {
    config: RegimeConfig,
    state: RegimeState,
}

/// All there is to restore of a detector.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RegimeState {
    /// Logarithm of the norm now and of its level; none before the first gradient.
    levels: Option<(f64, f64)>,
    ticks: u64,
    changes: u64,
}

impl RegimeDetector {
    /// A detector that has seen nothing.
    pub fn new(config: RegimeConfig) -> Self {
        Self { config, state: RegimeState::default() }
    }

    /// Takes in a gradient's norm; whether a new regime begins with it. Norms that are zero or not finite say nothing.
    pub fn observe(&mut self, norm: f64) -> bool {
        let log = norm.ln();
        if !self.config.enabled || !log.is_finite() {
            return false;
        }
        let (mut now, mut level) = self.state.levels.unwrap_or((log, log));
        now += (log - now) / self.config.present_ticks;
        let begins = self.state.ticks > self.config.least_ticks && now - level > self.config.jump.ln();
        if begins {
            self.state.changes += 1;
            self.state.ticks = 0;
            level = now;
        } else {
            self.state.ticks += 1;
            level += (log - level) / self.config.level_ticks;
        }
        self.state.levels = Some((now, level));
        begins
    }

    /// Begins a regime that the caller knows of.
    pub fn begin(&mut self) {
        self.state = RegimeState { levels: None, ticks: 0, changes: self.state.changes + 1 };
    }

    /// Changes so far.
    pub fn n_changes(&self) -> u64 {
        self.state.changes
    }

    /// All there is to restore.
    pub fn state(&self) -> RegimeState {
        self.state
    }

    /// Goes on from a state.
    pub fn restore(&mut self, state: RegimeState) {
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Norms fall from 3 to 0.05 within a regime and jump back, under noise of half an octave: each change is found within
    /// three ticks, and nothing else.
    #[test]
    fn changes_are_found_and_nothing_else() {
        let mut detector = RegimeDetector::new(RegimeConfig::default());
        let mut found = Vec::new();
        for tick in 0_u64..400 {
            let within = (tick % 80) as f64;
            let noise = ((tick * 2_654_435_761 % 1000) as f64 / 1000.0 - 0.5) * 0.7;
            if detector.observe((3.0 * (-within / 15.0).exp() + 0.05) * noise.exp()) {
                found.push(tick);
            }
        }
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().zip(1..).all(|(at, n)| (80 * n..80 * n + 3).contains(at)), "{found:?}");
        assert_eq!(detector.n_changes(), 4);
    }

    #[test]
    fn gradients_that_never_settle_have_no_regimes() {
        let mut detector = RegimeDetector::new(RegimeConfig::default());
        for tick in 0_u64..10_000 {
            let noise = ((tick * 2_654_435_761 % 1000) as f64 / 1000.0 - 0.5) * 1.5;
            assert!(!detector.observe(noise.exp()), "{tick}");
        }
        assert!(!detector.observe(0.0) && !detector.observe(f64::NAN) && !detector.observe(f64::INFINITY));
    }
}
