//! Observe, decide, reward, tick.

use super::observe::Observation;
use super::tuner::AfterWindow;
use super::{Agent, Decision, Observe, Policy, Stage, Tick};
use crate::error::{Error, Result};
use crate::policy::{Ties, best, epsilon_greedy_probabilities, sample, softmax};
use crate::prediction::Next;

impl Agent {
    /// Takes in what there is to see now. A second observation before a decision replaces the first.
    ///
    /// # Errors
    /// [`Error::Order`] while a reward is due, [`Error::Length`], [`Error::NotFinite`], [`Error::NamedTwice`], [`Error::NoRoom`]; nothing is
    /// changed then.
    pub fn observe(&mut self, seen: &(impl Observe + ?Sized)) -> Result<()> {
        if matches!(self.state.step, Stage::Decided { .. }) {
            return Err(Error::Order { called: "observe", found: "after `decide`", expected: "after `reward`" });
        }
        self.take_in(seen)?;
        self.state.observed = true;
        Ok(())
    }

    fn take_in(&mut self, seen: &(impl Observe + ?Sized)) -> Result<()> {
        let (incoming, filled) = (&mut self.scratch.incoming, &mut self.scratch.filled);
        incoming.fill(0.0);
        filled.fill(false);
        let n_known = self.state.places.len();
        let mut observation = Observation { places: &mut self.state.places, values: incoming, filled, next: 0 };
        if let Err(error) = seen.observe(&mut observation) {
            self.state.places.truncate(n_known);
            return Err(error);
        }
        self.state.now[..self.config.state_dim].copy_from_slice(&self.scratch.incoming);
        Ok(())
    }

    /// Chooses an action, then learns from the step before: only now it is known what followed.
    ///
    /// # Errors
    /// [`Error::Order`] without an observation or while a reward is due, [`Error::Diverged`] if the learner has; nothing is changed then.
    pub fn decide(&mut self) -> Result<Decision> {
        if !self.state.observed {
            return Err(Error::Order { called: "decide", found: "before `observe`", expected: "after it" });
        }
        if matches!(self.state.step, Stage::Decided { .. }) {
            return Err(Error::Order { called: "decide", found: "after `decide`", expected: "after `reward`" });
        }
        self.evaluate()?;
        // Two draws for each decision, whether they are used or not.
        let mut rng = self.draws.after(2 * self.state.decisions);
        let action = sample(&self.scratch.probabilities, &mut rng)?;
        let decision =
            Decision { action, probability: self.scratch.probabilities[action], value: self.scratch.values[action] };
        let greedy = decision.value >= self.scratch.values[best(&self.scratch.values)];
        if matches!(self.state.step, Stage::Rewarded { .. }) {
            let target = self.target(action);
            self.learn(Next::Continues(target))?;
        }
        self.state.here.copy_from_slice(&self.state.now);
        self.state.decisions += 1;
        self.state.observed = false;
        self.state.step = Stage::Decided { action, greedy };
        Ok(decision)
    }

    /// Values of what is observed now and the probabilities of the actions.
    pub(super) fn evaluate(&mut self) -> Result<()> {
        if let Err(error) = self.state.learner.values(&self.state.now, &mut self.scratch.values) {
            if !self.recover_from(&error)? {
                return Err(error);
            }
            self.state.learner.values(&self.state.now, &mut self.scratch.values)?;
        }
        let (temperature, exploration) = (self.temperature(), self.exploration());
        let (values, probabilities) = (&self.scratch.values, &mut self.scratch.probabilities);
        match self.config.policy {
            Policy::Boltzmann => softmax(values, temperature, probabilities),
            Policy::PhaseRates => epsilon_greedy_probabilities(values, exploration, Ties::Random, probabilities),
        }
    }

    /// The share of random actions by phase, no less than the set-point's effort.
    pub(super) fn exploration(&self) -> f64 {
        let rate = self.state.phase.exploration_rate() * self.factors().temperature;
        let effort = self.state.set_point.as_ref().map_or(0.0, |set_point| set_point.effort);
        rate.max(effort).min(1.0)
    }

    /// Takes in what the last action brought.
    ///
    /// # Errors
    /// [`Error::Order`] without a decision, [`Error::NotFinite`]; nothing is changed then.
    pub fn reward(&mut self, reward: f64) -> Result<()> {
        let Stage::Decided { action, greedy } = self.state.step else {
            return Err(Error::Order { called: "reward", found: "before `decide`", expected: "after it" });
        };
        crate::error::require_finite("reward", &[reward])?;
        if let Some(set_point) = &mut self.state.set_point {
            set_point.reward(reward, greedy)?;
        }
        if let Some(tuner) = &mut self.state.tuner {
            tuner.reward(reward);
        }
        self.state.step = Stage::Rewarded { action, greedy, reward };
        self.state.cycle += 1;
        self.state.mean_reward += (reward - self.state.mean_reward) / (self.state.cycle as f64).min(100.0);
        Ok(())
    }

    /// Ends the episode after its last reward: nothing follows. Learns from the last step.
    ///
    /// # Errors
    /// [`Error::Order`] unless a reward was the last call, [`Error::Diverged`]; nothing is changed then.
    pub fn terminated(&mut self) -> Result<()> {
        self.require_rewarded("terminated")?;
        // The phase is told of values; those of the state that the step began in are the ones there are.
        self.state.learner.values(&self.state.here, &mut self.scratch.values)?;
        self.learn(Next::Terminated)?;
        self.end_episode();
        Ok(())
    }

    /// Cuts the episode off after a reward, in the state that is `seen` now, whose value counts as what would have followed. Learns from the
    /// last step.
    ///
    /// # Errors
    /// As [`terminated`](Self::terminated) and [`observe`](Self::observe).
    pub fn truncated(&mut self, seen: &(impl Observe + ?Sized)) -> Result<()> {
        self.require_rewarded("truncated")?;
        self.take_in(seen)?;
        self.evaluate()?;
        let target = self.target(best(&self.scratch.values));
        self.learn(Next::Truncated(target))?;
        self.end_episode();
        Ok(())
    }

    fn require_rewarded(&self, called: &'static str) -> Result<()> {
        match self.state.step {
            Stage::Rewarded { .. } if !self.state.observed => Ok(()),
            Stage::Rewarded { .. } => {
                Err(Error::Order { called, found: "after `observe`", expected: "after `reward`" })
            }
            Stage::None | Stage::Decided { .. } => {
                Err(Error::Order { called, found: "without a reward", expected: "after `reward`" })
            }
        }
    }

    fn end_episode(&mut self) {
        self.state.step = Stage::None;
        self.state.observed = false;
    }

    /// What need not be done each cycle: ends the swarm's window when it is full, writes a checkpoint when one is due, and says how things
    /// are. The only method that touches a file by itself, and only after [`checkpoint_to`](Agent::checkpoint_to).
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it could not be written: the one before is then as it was, and so is the agent.
    pub fn tick(&mut self) -> Result<Tick> {
        if let Some(tuner) = &mut self.state.tuner {
            let after = tuner.tick()?;
            self.after_window(after)?;
        }
        let due = self.state.cycle.saturating_sub(self.state.last_saved) >= self.config.checkpoint_every;
        let saved = due && self.path.is_some();
        if saved {
            self.save_checkpoint()?;
        }
        Ok(Tick {
            cycle: self.state.cycle,
            mean_reward: self.state.mean_reward,
            error: self.state.error,
            temperature: self.temperature(),
            phase: self.state.phase.phase(),
            factors: self.factors(),
            effort: self.state.set_point.as_ref().map_or(0.0, |set_point| set_point.effort),
            saved,
        })
    }

    pub(super) fn after_window(&mut self, after: AfterWindow) -> Result<()> {
        let Some(tuner) = &mut self.state.tuner else { return Ok(()) };
        match after {
            AfterWindow::Nothing => return Ok(()),
            AfterWindow::Keep => tuner.keep(self.state.learner.weights(), self.state.phase),
            AfterWindow::Restore => {
                self.state.learner.set_weights(tuner.weights())?;
                self.state.phase = tuner.phase();
                self.state.learner.forget_episode();
            }
        }
        let step_size = self.config.learning_rate.scaled(tuner.factors.learning_rate);
        self.state.learner.set_step_size(step_size)
    }
}
