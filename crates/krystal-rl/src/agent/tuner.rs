//! A swarm that seeks better settings while the agent works.

use krystal_phase::{PhaseController, PhaseControllerConfig};
use krystal_swarm::{ClassicConfig, Dimension, Method, SearchSpace, StopRules, Swarm, SwarmConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require};

/// Settings of the swarm; moves are the seed's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunerConfig {
    /// Cycles that a trial's mean reward is taken over, at least 1. Longer windows have less noise and fewer trials. Default 200.
    pub window: u64,
    /// Windows tried before the best factors are kept for good, at least 1. Default 50.
    pub trials: u64,
    /// The learning rate is multiplied by up to this, or divided; above 1. Default 100.
    pub learning_rate_range: f64,
    /// So is the temperature. Default 10.
    pub temperature_range: f64,
    /// Particles, at least 1. Default 5.
    pub n_particles: usize,
    /// Inertia `w`. Default 0.7.
    pub inertia: f64,
    /// Pull `c1` towards a particle's own best. Default 1.5.
    pub cognitive: f64,
    /// Pull `c2` towards the swarm's best. Default 1.5.
    pub social: f64,
}

impl Default for TunerConfig {
    fn default() -> Self {
        Self {
            window: 200,
            trials: 50,
            learning_rate_range: 100.0,
            temperature_range: 10.0,
            n_particles: 5,
            inertia: 0.7,
            cognitive: 1.5,
            social: 1.5,
        }
    }
}

/// What learning rate and temperature are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Factors {
    /// Of the learning rate.
    pub learning_rate: f64,
    /// Of the temperature.
    pub temperature: f64,
}

/// The swarm, and the window under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tuner {
    config: TunerConfig,
    swarm: Swarm,
    /// The trial of the window; none once the best is kept.
    trial: Option<u64>,
    pub(crate) factors: Factors,
    sum: f64,
    n: u64,
    /// The greatest size of a reward so far.
    greatest_reward: f64,
    /// What a window's mean reward usually is: a moving average.
    usual: Option<f64>,
    /// The learner's weights and the temperature when the window began.
    weights: Vec<f64>,
    phase: PhaseController,
}

/// What is to be done after a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterWindow {
    /// The window goes on, or there is none any more.
    Nothing,
    /// Its weights are kept.
    Keep,
    /// Its weights are taken back.
    Restore,
}

impl Tuner {
    pub(crate) fn new(config: TunerConfig, seed: u64, weights: &[f64], phase: PhaseController) -> Result<Self> {
        require(config.window > 0, "window", "at least 1", 0.0)?;
        require(config.trials > 0, "trials", "at least 1", 0.0)?;
        for (name, range) in
            [("learning_rate_range", config.learning_rate_range), ("temperature_range", config.temperature_range)]
        {
            require(range > 1.0 && range.is_finite(), name, "a finite number above 1", range)?;
        }
        let refused = |source| Error::Swarm { source };
        let dimension = |name, range: f64| Dimension::float(name, 1.0 / range, range).log();
        let space = SearchSpace::new(vec![
            dimension("learning_rate", config.learning_rate_range),
            dimension("temperature", config.temperature_range),
        ]);
        let classic = ClassicConfig {
            n_particles: config.n_particles,
            inertia: config.inertia,
            cognitive: config.cognitive,
            social: config.social,
            ..ClassicConfig::default()
        };
        let stop = StopRules::after(config.trials);
        let swarm_config = SwarmConfig { seed, stop, classic, ..SwarmConfig::of(Method::Classic) };
        let mut swarm = Swarm::new(space.map_err(refused)?, swarm_config).map_err(refused)?;
        // As configured first: nothing is worse than that in the end but by noise.
        swarm.suggest(&[1.0, 1.0]).map_err(refused)?;
        let factors = Factors { learning_rate: 1.0, temperature: 1.0 };
        let mut tuner = Self {
            config,
            swarm,
            trial: None,
            factors,
            sum: 0.0,
            n: 0,
            greatest_reward: 0.0,
            usual: None,
            weights: weights.to_vec(),
            phase,
        };
        tuner.next_trial();
        Ok(tuner)
    }

    pub(crate) fn reward(&mut self, reward: f64) {
        self.greatest_reward = self.greatest_reward.max(reward.abs());
        if self.trial.is_some() {
            self.sum += reward;
            self.n = self.n.saturating_add(1);
        }
    }

    /// Ends the window if it is full: the swarm is told, and if the reward was below the usual, weights and temperature are again what
    /// they were when the window began, so that a bad trial costs its window and no more.
    pub(crate) fn tick(&mut self) -> Result<AfterWindow> {
        let Some(trial) = self.trial.filter(|_| self.n >= self.config.window) else { return Ok(AfterWindow::Nothing) };
        let mean = self.sum / self.n as f64;
        self.swarm.tell(trial, -mean).map_err(|source| Error::Swarm { source })?;
        let worse = self.usual.is_some_and(|usual| mean < usual);
        self.usual = Some(self.usual.map_or(mean, |usual| (usual + mean) / 2.0));
        self.next_trial();
        Ok(if worse { AfterWindow::Restore } else { AfterWindow::Keep })
    }

    /// That the factors of this window broke the learner: they are worse than everything, and the window ends.
    pub(crate) fn fail(&mut self) -> Result<AfterWindow> {
        let Some(trial) = self.trial else { return Ok(AfterWindow::Nothing) };
        self.swarm.fail(trial).map_err(|source| Error::Swarm { source })?;
        self.next_trial();
        Ok(AfterWindow::Restore)
    }

    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    pub(crate) fn phase(&self) -> PhaseController {
        self.phase
    }

    pub(crate) fn keep(&mut self, weights: &[f64], phase: PhaseController) {
        self.weights.copy_from_slice(weights);
        self.phase = phase;
    }

    /// Whether an error is a hundred times what any true value of these rewards can be.
    pub(crate) fn is_beyond(&self, error: f64, gamma: f64) -> bool {
        let horizon = 1.0 / (1.0 - gamma).max(1e-3);
        self.trial.is_some() && error.abs() > 100.0 * self.greatest_reward * horizon
    }

    pub(crate) fn is_tuning(&self) -> bool {
        self.trial.is_some()
    }

    fn next_trial(&mut self) {
        (self.sum, self.n) = (0.0, 0);
        let of = |x: &[f64]| Factors { learning_rate: x[0], temperature: x[1] };
        match self.swarm.ask() {
            Some(trial) => (self.trial, self.factors) = (Some(trial.id), of(&trial.x)),
            None => {
                self.trial = None;
                if let Some(best) = self.swarm.best() {
                    self.factors = of(&best.x);
                }
            }
        }
    }

    /// # Errors
    /// [`Error::Inconsistent`] or [`Error::Swarm`] for parts that do not fit each other, as a file can hold them.
    pub(crate) fn validate(&self, config: TunerConfig, n_weights: usize, phase: &PhaseControllerConfig) -> Result<()> {
        if self.config != config || self.swarm.n_particles() != config.n_particles {
            return Err(Error::Inconsistent { what: "the swarm and the configuration" });
        }
        let bytes = self.swarm.to_bytes().and_then(|bytes| Swarm::from_bytes(&bytes));
        let swarm = bytes.map_err(|source| Error::Swarm { source })?;
        let counts = [swarm.evaluations(), swarm.generations(), swarm.restarts()];
        let counted = counts.iter().all(|n| *n < 1 << 50)
            && swarm.best().is_none_or(|best| best.evaluation <= swarm.evaluations() && best.x.len() == 2);
        let pending = swarm.pending();
        let trial = self.trial.is_none_or(|id| pending.iter().any(|trial| trial.id == id));
        let inside = |x: f64, range: f64| (0.99 / range..=1.01 * range).contains(&x);
        let factors = inside(self.factors.learning_rate, config.learning_rate_range)
            && inside(self.factors.temperature, config.temperature_range);
        let numbers = phase == self.phase.config()
            && self.sum.is_finite()
            && self.greatest_reward.is_finite()
            && self.usual.is_none_or(f64::is_finite);
        let weights = self.weights.len() == n_weights && self.weights.iter().all(|w| w.is_finite());
        if swarm.space().n_dims() == 2 && counted && trial && factors && numbers && weights {
            Ok(())
        } else {
            Err(Error::Inconsistent { what: "the swarm and its window" })
        }
    }
}
