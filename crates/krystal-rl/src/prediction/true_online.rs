//! True online TD(lambda).

use serde::{Deserialize, Serialize};

use super::td::{set_weights, value};
use super::{Next, discounted_error, require_dim, require_share};
use crate::error::Result;
use crate::features::Features;
use crate::real::Real;
use crate::step_size::{Step, StepSize};
use crate::trace::Trace;

/// Settings of [`TrueOnlineTd`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrueOnlineTdConfig {
    /// Discount of a reward one step later, in `[0, 1]`. Default 0.95.
    pub gamma: f64,
    /// How slowly the trace fades, in `[0, 1]`. Default 0.9.
    pub lambda: f64,
    /// One for all features: `Fixed` (default, 0.1), `RobbinsMonro` or `Normalised`.
    pub step_size: StepSize,
}

impl Default for TrueOnlineTdConfig {
    fn default() -> Self {
        Self { gamma: 0.95, lambda: 0.9, step_size: StepSize::default() }
    }
}

/// True online TD(lambda): at every step exactly the weights of the online lambda-return algorithm, which looks at the whole episode
/// again at every step, in `O(d)`.
///
/// `V = w . x`, `V' = w . x'`, `delta = r + gamma V' - V`, the dutch trace `e <- gamma lambda e + alpha (1 - gamma lambda e . x) x` and
/// `w <- w + (delta + V - V_old) e - alpha (V - V_old) x`, then `V_old <- V'`. Van Seijen, Mahmood, Pilarski, Machado and Sutton
/// (2016), jmlr.org/papers/v17/15-599.html, in the form for step sizes that change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct TrueOnlineTd<R: Real> {
    weights: Vec<R>,
    gamma: R,
    lambda: R,
    step: Step<R>,
    trace: Trace<R>,
    old_value: R,
}

impl<R: Real> TrueOnlineTd<R> {
    /// A learner of `dim` features that expects nothing.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting outside its range, [`Error::StepSize`](crate::Error::StepSize) for step
    /// sizes that differ between features.
    pub fn new(dim: usize, config: TrueOnlineTdConfig) -> Result<Self> {
        require_dim(dim)?;
        require_share("gamma", config.gamma)?;
        require_share("lambda", config.lambda)?;
        let step = Step::new(config.step_size, dim)?;
        step.require_scalar("true online TD(lambda)", config.step_size)?;
        Ok(Self {
            weights: vec![R::ZERO; dim],
            gamma: R::from_f64(config.gamma),
            lambda: R::from_f64(config.lambda),
            step,
            trace: Trace::new(dim),
            old_value: R::ZERO,
        })
    }

    /// `w . x`
    ///
    /// # Errors
    /// As [`Td::value`](crate::Td::value).
    pub fn value<X: Features<R> + ?Sized>(&self, x: &X) -> Result<R> {
        value(&self.weights, x)
    }

    /// Learns from a step from `x` with this `reward` to `next` and returns the TD error.
    ///
    /// # Errors
    /// As [`Td::update`](crate::Td::update).
    pub fn update<X: Features<R> + ?Sized>(&mut self, x: &X, reward: R, next: Next<&X>) -> Result<R> {
        let delta = discounted_error(&self.weights, self.gamma, x, reward, &next)?;
        let next_value = next.state().map_or(R::ZERO, |next| next.dot(&self.weights));
        let alpha = self.step.scalar(x).unwrap_or(R::ZERO);
        dutch_step(&mut self.weights, &mut self.trace, alpha, self.gamma * self.lambda, delta, self.old_value, x);
        self.step.advance();
        self.old_value = next_value;
        if next.ends() {
            self.trace.reset();
            self.old_value = R::ZERO;
        }
        Ok(delta)
    }

    /// The weights `w`.
    pub fn weights(&self) -> &[R] {
        &self.weights
    }

    /// Sets the weights `w`; what is remembered of the episode is dropped.
    ///
    /// # Errors
    /// If there are not as many or one is not finite.
    pub fn set_weights(&mut self, weights: &[R]) -> Result<()> {
        set_weights(&mut self.weights, weights)?;
        self.trace.reset();
        self.old_value = R::ZERO;
        Ok(())
    }
}

/// One step of trace and weights.
pub(crate) fn dutch_step<R: Real, X: Features<R> + ?Sized>(
    weights: &mut [R],
    trace: &mut Trace<R>,
    alpha: R,
    fading: R,
    delta: R,
    old_value: R,
    x: &X,
) {
    let change = x.dot(weights) - old_value;
    // The trace so far, at x: only the product with x is needed, whether x is sparse or not.
    let overlap = trace.product(x);
    trace.decay(fading);
    trace.add(alpha * (R::ONE - fading * overlap), x);
    trace.add_to(delta + change, weights);
    x.add_to(-(alpha * change), weights);
}
