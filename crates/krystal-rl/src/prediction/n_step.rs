//! n-step TD.

use serde::{Deserialize, Serialize};

use super::td::{set_weights, value};
use super::{Next, discounted_error, require_dim, require_share};
use crate::error::{Result, require};
use crate::features::Features;
use crate::real::Real;
use crate::step_size::{Step, StepSize};

/// Settings of [`NStepTd`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NStepConfig {
    /// Rewards that are waited for before a value is moved, at least 1. Default 4.
    pub n: usize,
    /// Discount of a reward one step later, in `[0, 1]`. Default 0.95.
    pub gamma: f64,
    /// One for all features: `Fixed` (default, 0.1), `RobbinsMonro` or `Normalised`.
    pub step_size: StepSize,
}

impl Default for NStepConfig {
    fn default() -> Self {
        Self { n: 4, gamma: 0.95, step_size: StepSize::default() }
    }
}

/// A step that waits for its return: features as index and value, and the reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
struct Waiting<R: Real> {
    features: Vec<(u32, R)>,
    reward: R,
}

impl<R: Real> Waiting<R> {
    fn value(&self, weights: &[R]) -> R {
        self.features.iter().fold(R::ZERO, |sum, (i, x)| sum + weights[*i as usize] * *x)
    }
}

/// n-step TD: the return of `n` rewards and the value of the state after them.
///
/// `w <- w + alpha (G - V(s_t)) x(s_t)` with `G = r_{t+1} + gamma r_{t+2} + ... + gamma^n V(s_{t+n})`, made `n` steps later; the states at an
/// episode's end have shorter returns, and are moved when it ends. `O(d)` a step; memory of `n` states. Sutton and Barto (2018), section
/// 7.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct NStepTd<R: Real> {
    weights: Vec<R>,
    gamma: R,
    step: Step<R>,
    /// A ring; the oldest at `first`.
    ring: Vec<Waiting<R>>,
    first: usize,
    len: usize,
}

impl<R: Real> NStepTd<R> {
    /// A learner of `dim` features that expects nothing.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting outside its range, [`Error::StepSize`](crate::Error::StepSize) for step sizes that differ between features.
    pub fn new(dim: usize, config: NStepConfig) -> Result<Self> {
        require_dim(dim)?;
        require_share("gamma", config.gamma)?;
        require(config.n > 0, "n", "at least 1", 0.0)?;
        let step = Step::new(config.step_size, dim)?;
        step.require_scalar("n-step TD", config.step_size)?;
        Ok(Self {
            weights: vec![R::ZERO; dim],
            gamma: R::from_f64(config.gamma),
            step,
            ring: vec![Waiting { features: Vec::new(), reward: R::ZERO }; config.n],
            first: 0,
            len: 0,
        })
    }

    /// `w . x`
    ///
    /// # Errors
    /// As [`Td::value`](crate::Td::value).
    pub fn value<X: Features<R> + ?Sized>(&self, x: &X) -> Result<R> {
        value(&self.weights, x)
    }

    /// Takes in a step from `x` with this `reward` to `next`, moves the value of the state `n - 1` steps before (at an episode's end, of
    /// all that wait), and returns the one-step TD error.
    ///
    /// # Errors
    /// As [`Td::update`](crate::Td::update).
    pub fn update<X: Features<R> + ?Sized>(&mut self, x: &X, reward: R, next: Next<&X>) -> Result<R> {
        let delta = discounted_error(&self.weights, self.gamma, x, reward, &next)?;
        let n = self.ring.len();
        let slot = &mut self.ring[(self.first + self.len) % n];
        slot.reward = reward;
        slot.features.clear();
        x.for_each(|i, x| slot.features.push((i as u32, x)));
        self.len += 1;
        if self.len == n || next.ends() {
            let n_moved = if next.ends() { self.len } else { 1 };
            for _ in 0..n_moved {
                self.move_oldest(next.state().copied());
            }
        }
        Ok(delta)
    }

    fn move_oldest<X: Features<R> + ?Sized>(&mut self, after: Option<&X>) {
        let n = self.ring.len();
        let mut outcome = after.map_or(R::ZERO, |after| after.dot(&self.weights));
        for at in (0..self.len).rev() {
            outcome = self.ring[(self.first + at) % n].reward + self.gamma * outcome;
        }
        let oldest = &self.ring[self.first];
        let error = outcome - oldest.value(&self.weights);
        let alpha = match &self.step {
            Step::Normalised { alpha, epsilon } => {
                *alpha / oldest.features.iter().fold(*epsilon, |sum, (_, x)| sum + *x * *x)
            }
            // No other rule that is the same for all features looks at them.
            step => step.scalar(&[R::ZERO; 0]).unwrap_or(R::ZERO),
        };
        for (i, x) in &oldest.features {
            self.weights[*i as usize] += alpha * error * *x;
        }
        self.step.advance();
        self.first = (self.first + 1) % n;
        self.len -= 1;
    }

    /// The weights `w`.
    pub fn weights(&self) -> &[R] {
        &self.weights
    }

    /// Sets the weights `w`; steps that wait stay.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) or [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn set_weights(&mut self, weights: &[R]) -> Result<()> {
        set_weights(&mut self.weights, weights)
    }
}
