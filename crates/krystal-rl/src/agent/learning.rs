//! What an agent learns of a step.

use super::memory::Memory;
use super::{Agent, Method, Policy, Stage, measurement};
use crate::error::{Error, Result};
use crate::policy::{Ties, best, epsilon_greedy_probabilities, softmax};
use crate::prediction::Next;
use crate::replay::Transition;

impl Agent {
    /// The value of what is observed now, by the method; `action` is the one taken there.
    pub(super) fn target(&self, action: usize) -> f64 {
        let values = &self.scratch.values;
        match self.config.method {
            Method::Sarsa => values[action],
            Method::ExpectedSarsa => expectation(values, &self.scratch.probabilities),
            Method::QLearning => values[best(values)],
        }
    }

    /// Learns from the step under way, whose reward is known, and tells the phase controller.
    pub(super) fn learn(&mut self, target: Next<f64>) -> Result<()> {
        let Stage::Rewarded { action, greedy, reward } = self.state.step else { return Ok(()) };
        let cut_trace = self.config.method == Method::QLearning && !greedy;
        let learned = self.state.learner.towards(&self.state.here, action, reward, target, 1.0, cut_trace);
        let beyond = |error: f64| self.state.tuner.as_ref().is_some_and(|t| t.is_beyond(error, self.config.gamma));
        let learned = match learned {
            Ok(error) if beyond(error) => Err(Error::Diverged { what: "error", found: error }),
            learned => learned,
        };
        let error = match learned {
            Ok(error) => error,
            Err(error) => {
                return if self.recover_from(&error)? { Ok(()) } else { Err(error) };
            }
        };
        self.state.error = error;
        let seen = measurement(&self.config, error, reward, &self.scratch.values);
        self.state.phase.tick(&seen).map_err(|source| Error::Phase { source })?;
        if let Some(memory) = &mut self.state.memory {
            let now = &self.state.now[..];
            let next = target.map(|_| now);
            memory.push(&Transition { x: &self.state.here, action, reward, next })?;
            if let Err(error) = self.learn_again()
                && !self.recover_from(&error)?
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Where the swarm tries factors and the learner diverges, it is the factors' fault: the trial has failed, and what it did to the
    /// weights is taken back.
    pub(super) fn recover_from(&mut self, error: &Error) -> Result<bool> {
        let Some(tuner) = &mut self.state.tuner else { return Ok(false) };
        if !matches!(error, Error::Diverged { .. } | Error::NotFinite { .. }) || !tuner.is_tuning() {
            return Ok(false);
        }
        let after = tuner.fail()?;
        self.after_window(after)?;
        Ok(true)
    }

    fn learn_again(&mut self) -> Result<()> {
        let (Some(memory), Some(config)) = (&mut self.state.memory, self.config.replay) else { return Ok(()) };
        // Two numbers for each draw, for the rare ones that are drawn again.
        let mut rng = self.replay_draws.after(2 * config.batch as u64 * self.state.replays);
        self.state.replays += 1;
        let mut batch = std::mem::take(&mut self.scratch.batch);
        let mut errors = std::mem::take(&mut self.scratch.errors);
        memory.sample(config.batch, &mut rng, &mut batch)?;
        errors.clear();
        let dim = self.config.n_features();
        for i in 0..batch.indices.len() {
            let row = i * dim..(i + 1) * dim;
            let target = if batch.terminated[i] {
                Next::Terminated
            } else {
                Next::Continues(self.value_of(&batch.next[row.clone()])?)
            };
            let (x, action, reward) = (&batch.x[row], batch.actions[i], batch.rewards[i]);
            errors.push(self.state.learner.towards(x, action, reward, target, batch.weights[i], false)?);
        }
        if let Some(memory) = &mut self.state.memory {
            Memory::update(memory, &batch.indices, &errors)?;
        }
        (self.scratch.batch, self.scratch.errors) = (batch, errors);
        Ok(())
    }

    /// The value of a state by the method, as the agent would act there now.
    fn value_of(&mut self, x: &[f64]) -> Result<f64> {
        self.state.learner.values(x, &mut self.scratch.next_values)?;
        let (temperature, exploration) = (self.temperature(), self.exploration());
        let (values, probabilities) = (&self.scratch.next_values, &mut self.scratch.next_probabilities);
        if self.config.method == Method::QLearning {
            return Ok(values[best(values)]);
        }
        match self.config.policy {
            Policy::Boltzmann => softmax(values, temperature, probabilities)?,
            Policy::PhaseRates => epsilon_greedy_probabilities(values, exploration, Ties::Random, probabilities)?,
        }
        Ok(expectation(values, probabilities))
    }
}

fn expectation(values: &[f64], probabilities: &[f64]) -> f64 {
    values.iter().zip(probabilities).map(|(q, p)| q * p).sum()
}
