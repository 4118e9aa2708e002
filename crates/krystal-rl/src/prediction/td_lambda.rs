//! TD(lambda).

use serde::{Deserialize, Serialize};

use super::td::{set_weights, value};
use super::{Next, prepared_error, require_dim, require_share};
use crate::error::Result;
use crate::features::Features;
use crate::real::Real;
use crate::step_size::{Step, StepSize};
use crate::trace::{Trace, TraceKind};

/// Settings of [`TdLambda`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TdLambdaConfig {
    /// Discount of a reward one step later, in `[0, 1]`. Default 0.95.
    pub gamma: f64,
    /// How slowly the trace fades, in `[0, 1]`: 0 is TD(0), 1 close to Monte Carlo. Default 0.9.
    pub lambda: f64,
    /// Default `Fixed(0.1)`; not `Autostep`.
    pub step_size: StepSize,
    /// Default accumulating.
    pub trace: TraceKind,
}

impl Default for TdLambdaConfig {
    fn default() -> Self {
        Self { gamma: 0.95, lambda: 0.9, step_size: StepSize::default(), trace: TraceKind::default() }
    }
}

/// TD(lambda) with an accumulating or a replacing trace: states seen a while ago share in what is learned now.
///
/// `z <- gamma lambda z + x(s)` (or replaced, see [`TraceKind`]), `delta = r + gamma V(s') - V(s)`, `w <- w + alpha delta z`. `O(d)`, of
/// sparse features as many as have a trace: one below 10^-9 is forgotten. Sutton (1988), doi:10.1007/BF00115009; Sutton and Barto
/// (2018), section 12.2. [`TrueOnlineTd`](crate::TrueOnlineTd) learns as fast or faster with one step size for all features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct TdLambda<R: Real> {
    weights: Vec<R>,
    gamma: R,
    lambda: R,
    step: Step<R>,
    kind: TraceKind,
    trace: Trace<R>,
}

impl<R: Real> TdLambda<R> {
    /// A learner of `dim` features that expects nothing.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting outside its range, [`Error::StepSize`](crate::Error::StepSize) for
    /// `Autostep`.
    pub fn new(dim: usize, config: TdLambdaConfig) -> Result<Self> {
        require_dim(dim)?;
        require_share("gamma", config.gamma)?;
        require_share("lambda", config.lambda)?;
        let step = Step::new(config.step_size, dim)?;
        step.require_traceable("TD(lambda)", config.step_size)?;
        Ok(Self {
            weights: vec![R::ZERO; dim],
            gamma: R::from_f64(config.gamma),
            lambda: R::from_f64(config.lambda),
            step,
            kind: config.trace,
            trace: Trace::new(dim),
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
    #[inline]
    pub fn update<X: Features<R> + ?Sized>(&mut self, x: &X, reward: R, next: Next<&X>) -> Result<R> {
        let delta = prepared_error(&mut self.step, &mut self.weights, self.gamma, x, reward, &next)?;
        self.trace.decay(self.gamma * self.lambda);
        match self.kind {
            TraceKind::Accumulating => self.trace.add(R::ONE, x),
            TraceKind::Replacing => self.trace.replace(x),
        }
        self.step.apply(&mut self.weights, delta, &self.trace, x);
        if next.ends() {
            self.trace.reset();
        }
        Ok(delta)
    }

    /// The weights `w`.
    pub fn weights(&self) -> &[R] {
        &self.weights
    }

    /// Sets the weights `w`; the trace stays.
    ///
    /// # Errors
    /// If there are not as many or one is not finite.
    pub fn set_weights(&mut self, weights: &[R]) -> Result<()> {
        set_weights(&mut self.weights, weights)
    }
}
