//! TD(0).

use serde::{Deserialize, Serialize};

use super::{Next, prepared_error, require_dim, require_share};
use crate::error::{Result, require_len};
use crate::features::{Features, check_finite};
use crate::real::Real;
use crate::step_size::{Step, StepSize};

/// Settings of [`Td`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TdConfig {
    /// Discount of a reward one step later, in `[0, 1]`. Default 0.95.
    pub gamma: f64,
    /// Default `Fixed(0.1)`.
    pub step_size: StepSize,
}

impl Default for TdConfig {
    fn default() -> Self {
        Self { gamma: 0.95, step_size: StepSize::default() }
    }
}

/// TD(0) with linear features: moves the value of a state towards the reward and the discounted value of the next state.
///
/// `delta = r + gamma V(s') - V(s)`, `w <- w + alpha delta x(s)`, with `V(s) = w . x(s)`, reward `r`, discount `gamma` and step size
/// `alpha`; weights begin at 0. `O(d)`; a learner of 8 dense features takes some 10 ns. Sutton (1988), doi:10.1007/BF00115009.
///
/// With features that are not those of a table the limit is not the least error but the fixed point of the projected Bellman operator;
/// off-policy it may not exist ([`Tdc`](crate::Tdc) is for that).
///
/// ```
/// use krystal_rl::{Next, Td, TdConfig};
///
/// let mut td = Td::<f32>::new(2, TdConfig::default())?;
/// td.update(&[1.0, 0.0], 0.0, Next::Continues(&[0.0, 1.0]))?;
/// let delta = td.update(&[0.0, 1.0], 1.0, Next::Terminated)?;
/// assert_eq!((delta, td.value(&[0.0, 1.0])?), (1.0, 0.1));
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Td<R: Real> {
    weights: Vec<R>,
    gamma: R,
    step: Step<R>,
}

impl<R: Real> Td<R> {
    /// A learner of `dim` features that expects nothing.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting outside its range.
    pub fn new(dim: usize, config: TdConfig) -> Result<Self> {
        require_dim(dim)?;
        require_share("gamma", config.gamma)?;
        Ok(Self {
            weights: vec![R::ZERO; dim],
            gamma: R::from_f64(config.gamma),
            step: Step::new(config.step_size, dim)?,
        })
    }

    /// `w . x`
    ///
    /// # Errors
    /// If `x` is not of as many features as the learner, or one is not finite.
    pub fn value<X: Features<R> + ?Sized>(&self, x: &X) -> Result<R> {
        value(&self.weights, x)
    }

    /// Learns from a step from `x` with this `reward` to `next` and returns the TD error.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite), [`Error::Length`](crate::Error::Length) or
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) for an input that is none, [`Error::Diverged`](crate::Error::Diverged); nothing
    /// is changed then.
    #[inline]
    pub fn update<X: Features<R> + ?Sized>(&mut self, x: &X, reward: R, next: Next<&X>) -> Result<R> {
        let delta = prepared_error(&mut self.step, &mut self.weights, self.gamma, x, reward, &next)?;
        self.step.apply(&mut self.weights, delta, x, x);
        Ok(delta)
    }

    /// The weights `w`.
    pub fn weights(&self) -> &[R] {
        &self.weights
    }

    /// Sets the weights `w`.
    ///
    /// # Errors
    /// If there are not as many or one is not finite.
    pub fn set_weights(&mut self, weights: &[R]) -> Result<()> {
        set_weights(&mut self.weights, weights)
    }
}

/// # Errors
/// As [`Td::value`].
#[inline]
pub(crate) fn value<R: Real, X: Features<R> + ?Sized>(weights: &[R], x: &X) -> Result<R> {
    x.fits(weights.len())?;
    let value = x.dot(weights);
    if value.is_finite() {
        return Ok(value);
    }
    check_finite("feature", x)?;
    Err(crate::Error::Diverged { what: "value", found: value.to_f64() })
}

/// # Errors
/// As [`Td::set_weights`].
pub(crate) fn set_weights<R: Real>(own: &mut [R], weights: &[R]) -> Result<()> {
    require_len("weights", own.len(), weights.len())?;
    check_finite("weight", weights)?;
    own.copy_from_slice(weights);
    Ok(())
}
