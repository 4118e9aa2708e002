//! TD with gradient correction.

use serde::{Deserialize, Serialize};

use super::td::{set_weights, value};
use super::{Next, discounted_error, require_dim, require_share};
use crate::error::{Result, require};
use crate::features::Features;
use crate::real::Real;
use crate::step_size::{Step, StepSize};

/// Settings of [`Tdc`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TdcConfig {
    /// Discount of a reward one step later, in `[0, 1]`. Default 0.95.
    pub gamma: f64,
    /// Step size of the weights: `Fixed` (default, 0.1), `RobbinsMonro` or `Normalised`. For convergence it must vanish faster than
    /// `correction_step_size`.
    pub step_size: StepSize,
    /// Step size of the correction, above 0. Default 0.1.
    pub correction_step_size: f64,
}

impl Default for TdcConfig {
    fn default() -> Self {
        Self { gamma: 0.95, step_size: StepSize::default(), correction_step_size: 0.1 }
    }
}

/// TDC: learns the values of one policy from the steps of another without diverging.
///
/// `w <- w + alpha rho (delta x - gamma x' (x . v))`, `v <- v + beta rho (delta - v . x) x`, with `rho = pi(a|s) / b(a|s)`, the probability of
/// the action under the policy that is learned about over that under the one that acts. Twice the work of TD(0). Where TD(0) diverges
/// (Baird's counterexample), TDC does not, but may be slow. Sutton, Maei, Precup et al. (2009), doi:10.1145/1553374.1553501; Sutton and
/// Barto (2018), section 11.7.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Tdc<R: Real> {
    weights: Vec<R>,
    correction: Vec<R>,
    gamma: R,
    step: Step<R>,
    beta: R,
}

impl<R: Real> Tdc<R> {
    /// A learner of `dim` features that expects nothing.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting outside its range, [`Error::StepSize`](crate::Error::StepSize) for step sizes that differ between features.
    pub fn new(dim: usize, config: TdcConfig) -> Result<Self> {
        require_dim(dim)?;
        require_share("gamma", config.gamma)?;
        let beta = config.correction_step_size;
        require(beta > 0.0 && beta.is_finite(), "correction_step_size", "a finite number above 0", beta)?;
        let step = Step::new(config.step_size, dim)?;
        step.require_scalar("TDC", config.step_size)?;
        Ok(Self {
            weights: vec![R::ZERO; dim],
            correction: vec![R::ZERO; dim],
            gamma: R::from_f64(config.gamma),
            step,
            beta: R::from_f64(beta),
        })
    }

    /// `w . x`
    ///
    /// # Errors
    /// As [`Td::value`](crate::Td::value).
    pub fn value<X: Features<R> + ?Sized>(&self, x: &X) -> Result<R> {
        value(&self.weights, x)
    }

    /// Learns from a step from `x` with this `reward` to `next`, taken with the importance ratio `rho >= 0`, and returns the TD error.
    ///
    /// # Errors
    /// As [`Td::update`](crate::Td::update), and [`Error::Setting`](crate::Error::Setting) for a ratio below 0 or not finite.
    pub fn update<X: Features<R> + ?Sized>(&mut self, x: &X, reward: R, next: Next<&X>, rho: R) -> Result<R> {
        require(rho >= R::ZERO && rho.is_finite(), "rho", "a finite number of at least 0", rho.to_f64())?;
        let delta = discounted_error(&self.weights, self.gamma, x, reward, &next)?;
        let expected = x.dot(&self.correction);
        let alpha = self.step.scalar(x).unwrap_or(R::ZERO);
        x.add_to(alpha * rho * delta, &mut self.weights);
        if let Some(next) = next.state() {
            next.add_to(-(alpha * rho * self.gamma * expected), &mut self.weights);
        }
        x.add_to(self.beta * rho * (delta - expected), &mut self.correction);
        self.step.advance();
        Ok(delta)
    }

    /// The weights `w`.
    pub fn weights(&self) -> &[R] {
        &self.weights
    }

    /// The weights `v` of the correction.
    pub fn correction(&self) -> &[R] {
        &self.correction
    }

    /// Sets the weights `w`; the correction stays.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) or [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn set_weights(&mut self, weights: &[R]) -> Result<()> {
        set_weights(&mut self.weights, weights)
    }

    /// Sets the weights `v` of the correction.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) or [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn set_correction(&mut self, correction: &[R]) -> Result<()> {
        set_weights(&mut self.correction, correction)
    }
}
