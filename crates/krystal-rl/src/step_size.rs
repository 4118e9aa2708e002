//! How far a learner steps.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require};
use crate::features::{Features, squared_norm};
use crate::real::Real;

/// The rule for step sizes.
///
/// With `delta` the TD error and `z` the direction of the step (the features `x`, or their trace):
///
/// | rule | step | for |
/// |---|---|---|
/// | `Fixed` | `alpha delta z` | tracking a world that changes |
/// | `RobbinsMonro` | `alpha (h / (h + t))^p delta z` | convergence |
/// | `Normalised` | `alpha / (epsilon + x.x) delta z` | features of unknown length |
/// | `Nag` | each feature its own, free of units | features of unlike and unknown scales |
/// | `Autostep` | each feature its own, learned | features of unlike and unknown worth |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSize {
    /// The same step size `alpha > 0` for ever: does not converge to a point but follows changes.
    Fixed(f64),
    /// `alpha_t = alpha (half_life / (half_life + t))^power` after `t` updates.
    ///
    /// Meets the conditions of Robbins and Monro (1951, doi:10.1214/aoms/1177729586), `sum alpha_t = infinity` and
    /// `sum alpha_t^2 < infinity`, exactly for `1/2 < power <= 1`; other powers are refused. TD with linear features then converges on
    /// the states it visits if features are linearly independent, rewards have bounded variance and the states form an ergodic Markov
    /// chain sampled on-policy (Tsitsiklis and Van Roy 1997, doi:10.1109/9.580874). Powers below 1 forget the start sooner. The power
    /// comes from the platform's libm, whose last bit may differ between machines (but for `power` 1).
    RobbinsMonro {
        /// First step size, above 0.
        alpha: f64,
        /// With power 1, updates after which the step size has halved; above 0.
        half_life: f64,
        /// In (1/2, 1].
        power: f64,
    },
    /// Normalised least mean squares: `alpha / (epsilon + x.x)`; for `alpha` in (0, 2) no step of a `lambda = 0` learner overshoots
    /// twice its own error (Widrow and Hoff 1960; Bitmead and Anderson 1980, doi:10.1109/TCS.1980.1084907).
    Normalised {
        /// Share of the error that a step removes, in (0, 2).
        alpha: f64,
        /// Keeps steps finite where all features are 0; above 0.
        epsilon: f64,
    },
    /// Normalised adaptive gradient (Ross, Mineiro and Langford 2013, arXiv:1305.6646, algorithm 2), which Vowpal Wabbit's default goes
    /// back to: `w_i += eta sqrt(t / N) delta z_i / (s_i sqrt(G_i))` with `s_i` the greatest `|x_i|` so far, `G_i` the sum of squares of
    /// `delta z_i` and `N` the sum of all `x_i^2 / s_i^2`. Multiplying a feature by a constant changes no prediction.
    Nag {
        /// Above 0; 0.5 is Vowpal Wabbit's.
        eta: f64,
    },
    /// Autostep (Mahmood, Sutton, Degris and Pilarski 2012, doi:10.1109/ICASSP.2012.6288330): meta-gradient descent on the logarithm
    /// of each feature's step size, normalised so that one setting fits all problems. Derived for supervised learning; here the TD
    /// target counts as given. Not for traces.
    Autostep {
        /// First step size of all features, above 0.
        alpha: f64,
        /// Step size of the step sizes; 0.01 is the paper's.
        meta: f64,
        /// Updates over which the normaliser forgets; 10,000 is the paper's.
        tau: f64,
    },
}

impl Default for StepSize {
    /// The seed's learning rate of 0.1.
    fn default() -> Self {
        Self::Fixed(0.1)
    }
}

impl From<f64> for StepSize {
    fn from(alpha: f64) -> Self {
        Self::Fixed(alpha)
    }
}

impl StepSize {
    /// Autostep with the paper's settings.
    pub fn autostep(alpha: f64) -> Self {
        Self::Autostep { alpha, meta: 0.01, tau: 10_000.0 }
    }

    /// The rule's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fixed(_) => "fixed",
            Self::RobbinsMonro { .. } => "robbins_monro",
            Self::Normalised { .. } => "normalised",
            Self::Nag { .. } => "nag",
            Self::Autostep { .. } => "autostep",
        }
    }

    /// The rule with all its step sizes multiplied by `factor`.
    pub fn scaled(self, factor: f64) -> Self {
        match self {
            Self::Fixed(alpha) => Self::Fixed(alpha * factor),
            Self::RobbinsMonro { alpha, half_life, power } => {
                Self::RobbinsMonro { alpha: alpha * factor, half_life, power }
            }
            Self::Normalised { alpha, epsilon } => Self::Normalised { alpha: (alpha * factor).min(1.999), epsilon },
            Self::Nag { eta } => Self::Nag { eta: eta * factor },
            Self::Autostep { alpha, meta, tau } => Self::Autostep { alpha: alpha * factor, meta, tau },
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let positive = |name, x: f64| require(x > 0.0 && x.is_finite(), name, "a finite number above 0", x);
        match *self {
            Self::Fixed(alpha) => positive("step_size", alpha),
            Self::RobbinsMonro { alpha, half_life, power } => {
                positive("alpha", alpha)?;
                positive("half_life", half_life)?;
                require(power > 0.5 && power <= 1.0, "power", "above 1/2 and at most 1", power)
            }
            Self::Normalised { alpha, epsilon } => {
                require(alpha > 0.0 && alpha < 2.0, "alpha", "above 0 and below 2", alpha)?;
                positive("epsilon", epsilon)
            }
            Self::Nag { eta } => positive("eta", eta),
            Self::Autostep { alpha, meta, tau } => {
                positive("alpha", alpha)?;
                positive("meta", meta)?;
                require(tau >= 1.0 && tau.is_finite(), "tau", "a finite number of at least 1", tau)
            }
        }
    }
}

/// A rule with its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) enum Step<R: Real> {
    Fixed(R),
    RobbinsMonro { alpha: f64, half_life: f64, power: f64, t: u64 },
    Normalised { alpha: R, epsilon: R },
    Nag { eta: R, t: u64, n: f64, scale: Vec<R>, squares: Vec<R> },
    Autostep { meta: R, tau: R, alpha: Vec<R>, normaliser: Vec<R>, trace: Vec<R> },
}

impl<R: Real> Step<R> {
    pub(crate) fn new(rule: StepSize, dim: usize) -> Result<Self> {
        rule.validate()?;
        let zeros = || vec![R::ZERO; dim];
        Ok(match rule {
            StepSize::Fixed(alpha) => Self::Fixed(R::from_f64(alpha)),
            StepSize::RobbinsMonro { alpha, half_life, power } => Self::RobbinsMonro { alpha, half_life, power, t: 0 },
            StepSize::Normalised { alpha, epsilon } => {
                Self::Normalised { alpha: R::from_f64(alpha), epsilon: R::from_f64(epsilon) }
            }
            StepSize::Nag { eta } => {
                Self::Nag { eta: R::from_f64(eta), t: 0, n: 0.0, scale: zeros(), squares: zeros() }
            }
            StepSize::Autostep { alpha, meta, tau } => Self::Autostep {
                meta: R::from_f64(meta),
                tau: R::from_f64(tau),
                alpha: vec![R::from_f64(alpha); dim],
                normaliser: zeros(),
                trace: zeros(),
            },
        })
    }

    /// Changes the rule's constants and keeps its memory; another rule starts anew.
    pub(crate) fn retune(&mut self, rule: StepSize, dim: usize) -> Result<()> {
        let mut new = Self::new(rule, dim)?;
        match (&mut new, &mut *self) {
            (Self::RobbinsMonro { t, .. }, Self::RobbinsMonro { t: old, .. }) => *t = *old,
            (
                Self::Nag { t, n, scale, squares, .. },
                Self::Nag { t: t0, n: n0, scale: scale0, squares: squares0, .. },
            ) => {
                (*t, *n) = (*t0, *n0);
                std::mem::swap(scale, scale0);
                std::mem::swap(squares, squares0);
            }
            _ => {}
        }
        *self = new;
        Ok(())
    }

    /// Whether the memory is that of `dim` weights.
    pub(crate) fn fits(&self, dim: usize) -> bool {
        match self {
            Self::Fixed(_) | Self::RobbinsMonro { .. } | Self::Normalised { .. } => true,
            Self::Nag { scale, squares, .. } => scale.len() == dim && squares.len() == dim,
            Self::Autostep { alpha, normaliser, trace, .. } => {
                [alpha, normaliser, trace].iter().all(|memory| memory.len() == dim)
            }
        }
    }

    /// Whether weights are rescaled before they are used, so that inputs must be judged before.
    pub(crate) fn rescales(&self) -> bool {
        matches!(self, Self::Nag { .. })
    }

    /// Rescales weights of features that are greater than ever.
    pub(crate) fn prepare(&mut self, x: &(impl Features<R> + ?Sized), weights: &mut [R]) {
        if let Self::Nag { scale, .. } = self {
            x.for_each(|i, x| {
                let size = x.abs();
                if size > scale[i] {
                    weights[i] *= scale[i] / size;
                    scale[i] = size;
                }
            });
        }
    }

    /// The step size where it is the same for all features; does not count as an update.
    #[inline(always)]
    pub(crate) fn scalar(&self, x: &(impl Features<R> + ?Sized)) -> Option<R> {
        match self {
            Self::Fixed(alpha) => Some(*alpha),
            Self::RobbinsMonro { alpha, half_life, power, t } => {
                let share = half_life / (half_life + *t as f64);
                let share = if *power == 1.0 { share } else { share.powf(*power) };
                Some(R::from_f64(alpha * share))
            }
            Self::Normalised { alpha, epsilon } => Some(*alpha / (*epsilon + squared_norm(x))),
            Self::Nag { .. } | Self::Autostep { .. } => None,
        }
    }

    /// Counts an update.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        if let Self::RobbinsMonro { t, .. } = self {
            *t = t.saturating_add(1);
        }
    }

    /// `weights += (step sizes) delta direction`, for features `x`.
    #[inline(always)]
    pub(crate) fn apply<X, Z>(&mut self, weights: &mut [R], delta: R, direction: &Z, x: &X)
    where
        X: Features<R> + ?Sized,
        Z: Features<R> + ?Sized,
    {
        if let Some(alpha) = self.scalar(x) {
            direction.add_to(alpha * delta, weights);
            self.advance();
        } else {
            self.apply_per_feature(weights, delta, direction, x);
        }
    }

    fn apply_per_feature<X, Z>(&mut self, weights: &mut [R], delta: R, direction: &Z, x: &X)
    where
        X: Features<R> + ?Sized,
        Z: Features<R> + ?Sized,
    {
        match self {
            Self::Nag { eta, t, n, scale, squares } => {
                *t = t.saturating_add(1);
                x.for_each(|i, x| {
                    if scale[i] > R::ZERO {
                        let share = (x / scale[i]).to_f64();
                        *n += share * share;
                    }
                });
                if *n == 0.0 {
                    return;
                }
                let rate = *eta * R::from_f64((*t as f64 / *n).sqrt());
                direction.for_each(|i, z| {
                    let gradient = delta * z;
                    squares[i] += gradient * gradient;
                    if squares[i] > R::ZERO {
                        weights[i] += rate * gradient / (scale[i] * squares[i].sqrt());
                    }
                });
            }
            Self::Autostep { meta, tau, alpha, normaliser, trace } => {
                let mut overshoot = R::ZERO;
                x.for_each(|i, x| {
                    let meta_gradient = delta * x * trace[i];
                    let size = meta_gradient.abs();
                    normaliser[i] = size.max(normaliser[i] + alpha[i] * x * x / *tau * (size - normaliser[i]));
                    if normaliser[i] > R::ZERO {
                        alpha[i] *= (*meta * meta_gradient / normaliser[i]).exp();
                    }
                    overshoot += alpha[i] * x * x;
                });
                let overshoot = overshoot.max(R::ONE);
                x.for_each(|i, x| {
                    alpha[i] = alpha[i] / overshoot;
                    let step = alpha[i] * delta * x;
                    weights[i] += step;
                    trace[i] = trace[i] * (R::ONE - alpha[i] * x * x) + step;
                });
            }
            Self::Fixed(_) | Self::RobbinsMonro { .. } | Self::Normalised { .. } => {}
        }
    }

    /// # Errors
    /// [`Error::StepSize`] unless one step size goes for all features.
    pub(crate) fn require_scalar(&self, learner: &'static str, rule: StepSize) -> Result<()> {
        match self {
            Self::Nag { .. } | Self::Autostep { .. } => Err(Error::StepSize {
                learner,
                step_size: rule.name(),
                reason: "it needs one step size for all features",
            }),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`Error::StepSize`] if the rule is not defined for traces.
    pub(crate) fn require_traceable(&self, learner: &'static str, rule: StepSize) -> Result<()> {
        match self {
            Self::Autostep { .. } => {
                Err(Error::StepSize { learner, step_size: rule.name(), reason: "it is not defined for traces" })
            }
            _ => Ok(()),
        }
    }
}
