//! What follows a step, and the error of what was expected.

use crate::error::{Error, Result};
use crate::features::{Features, check_finite};
use crate::real::Real;
use crate::step_size::Step;

/// What followed a step.
///
/// An episode that *terminated* has no further reward: nothing is added to the last one. An episode that was *truncated* (a limit of
/// steps, a restart) would have gone on: the value of its last state counts, and what is remembered of the episode is dropped. Taking
/// one for the other is a common and costly mistake (Pardo et al. 2018, arXiv:1712.00378).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next<S> {
    /// The episode goes on from here.
    Continues(S),
    /// The episode was cut off here.
    Truncated(S),
    /// The episode is over.
    Terminated,
}

impl<S> Next<S> {
    /// The state that the value of what follows is taken from.
    #[inline(always)]
    pub fn state(&self) -> Option<&S> {
        match self {
            Self::Continues(state) | Self::Truncated(state) => Some(state),
            Self::Terminated => None,
        }
    }

    /// Whether the episode is over, either way.
    #[inline(always)]
    pub fn ends(&self) -> bool {
        !matches!(self, Self::Continues(_))
    }

    /// The same end with another state.
    pub(crate) fn map<T>(&self, f: impl FnOnce(&S) -> T) -> Next<T> {
        match self {
            Self::Continues(state) => Next::Continues(f(state)),
            Self::Truncated(state) => Next::Truncated(f(state)),
            Self::Terminated => Next::Terminated,
        }
    }
}

/// `reward + gamma w . next - w . x`, where `next` ended the episode without `gamma w . next`.
///
/// # Errors
/// If a vector is not of `weights.len()` features, or the result is not finite, which it is exactly when an input is not or the learner
/// has diverged: a number that is not finite never becomes finite again in sums and products.
#[inline(always)]
pub(crate) fn discounted_error<R: Real, X: Features<R> + ?Sized>(
    weights: &[R],
    gamma: R,
    x: &X,
    reward: R,
    next: &Next<&X>,
) -> Result<R> {
    x.fits(weights.len())?;
    let delta = match next.state() {
        Some(next) => {
            next.fits(weights.len())?;
            x.temporal_difference(reward, gamma, next, weights)
        }
        None => reward - x.dot(weights),
    };
    if delta.is_finite() { Ok(delta) } else { Err(blame(x, reward, next, delta)) }
}

/// [`discounted_error`] of a learner whose step sizes may rescale its weights by what they see: they do so before, and only once all
/// inputs were judged.
///
/// # Errors
/// As [`discounted_error`].
#[inline(always)]
pub(crate) fn prepared_error<R: Real, X: Features<R> + ?Sized>(
    step: &mut Step<R>,
    weights: &mut [R],
    gamma: R,
    x: &X,
    reward: R,
    next: &Next<&X>,
) -> Result<R> {
    if step.rescales() {
        x.fits(weights.len())?;
        next.state().map_or(Ok(()), |next| next.fits(weights.len()))?;
        judge(x, reward, next)?;
        step.prepare(x, weights);
    }
    discounted_error(weights, gamma, x, reward, next)
}

/// Which input made an error that is not finite.
#[cold]
#[inline(never)]
pub(crate) fn blame<R: Real, X: Features<R> + ?Sized>(x: &X, reward: R, next: &Next<&X>, delta: R) -> Error {
    judge(x, reward, next).err().unwrap_or(Error::Diverged { what: "error", found: delta.to_f64() })
}

/// # Errors
/// [`Error::NotFinite`] for the first input that is not finite.
pub(crate) fn judge<R: Real, X: Features<R> + ?Sized>(x: &X, reward: R, next: &Next<&X>) -> Result<()> {
    check_finite("feature", x)?;
    if !reward.is_finite() {
        return Err(Error::NotFinite { what: "reward", index: 0, found: reward.to_f64() });
    }
    next.state().map_or(Ok(()), |next| check_finite("feature of the next state", *next))
}
