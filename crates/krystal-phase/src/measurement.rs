//! What a controller is told.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, measured};

/// How random the choices of a policy were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredEntropy {
    /// The mean entropy of the distributions that were sampled from, in nats; at least 0.
    pub entropy: f64,
    /// The entropy at infinite temperature, above 0: `ln K` for `K` choices.
    pub maximum: f64,
    /// `C = T dH/dT`, the variance of the logits after division by `T`, where it is known; at least 0.
    pub heat_capacity: Option<f64>,
}

/// What an agent, a trainer or an annealer saw since the last tick. Controllers use what they need and refuse to go on without it;
/// everything that is given must be a number.
///
/// ```
/// use krystal_phase::Measurement;
///
/// let seen = Measurement { objective: Some(-12.5), ..Measurement::gradient(0.3) }.with_variance(4.0);
/// assert_eq!(seen.stability, Some(0.2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measurement<'a> {
    /// `|grad f|`, or whatever else says how much there is left to do, such as a temporal-difference error; at least 0.
    pub gradient: Option<f64>,
    /// `1 / (1 + variance)`, between 0 and 1.
    pub stability: Option<f64>,
    /// What is minimised: an energy, a loss, or a reward times -1.
    pub objective: Option<f64>,
    /// The share of proposed moves that were accepted, between 0 and 1.
    pub acceptance: Option<f64>,
    /// How random the policy was.
    pub entropy: Option<MeasuredEntropy>,
    /// Values (action values, logits) that a softmax at the new temperature will choose among.
    pub preferences: Option<&'a [f64]>,
    /// A temperature decided elsewhere; at least 0 and finite.
    pub temperature: Option<f64>,
}

impl Measurement<'_> {
    /// A measurement of a gradient alone.
    pub fn gradient(gradient: f64) -> Self {
        Self { gradient: Some(gradient), ..Self::default() }
    }

    /// A measurement of an objective alone.
    pub fn objective(objective: f64) -> Self {
        Self { objective: Some(objective), ..Self::default() }
    }

    /// With the stability `1 / (1 + variance)`.
    pub fn with_variance(self, variance: f64) -> Self {
        Self { stability: Some(1.0 / (1.0 + variance)), ..self }
    }

    /// # Errors
    /// [`Error::Measured`] for a value outside its range, [`Error::NotANumber`] for such a preference.
    pub(crate) fn validate(&self) -> Result<()> {
        let check = |value: Option<f64>, name, expected, holds: fn(f64) -> bool| {
            value.map_or(Ok(()), |value| measured(holds(value), name, expected, value))
        };
        let at_least_zero: fn(f64) -> bool = |x| (0.0..f64::INFINITY).contains(&x);
        let share: fn(f64) -> bool = |x| (0.0..=1.0).contains(&x);
        check(self.gradient, "gradient", "at least 0 and finite", at_least_zero)?;
        check(self.stability, "stability", "between 0 and 1", share)?;
        check(self.objective, "objective", "finite", f64::is_finite)?;
        check(self.acceptance, "acceptance", "between 0 and 1", share)?;
        check(self.temperature, "temperature", "at least 0 and finite", at_least_zero)?;
        if let Some(MeasuredEntropy { entropy, maximum, heat_capacity }) = self.entropy {
            check(Some(entropy), "entropy", "at least 0 and finite", at_least_zero)?;
            check(Some(maximum), "maximum of the entropy", "above 0 and finite", |x| x > 0.0 && x.is_finite())?;
            check(heat_capacity, "heat capacity", "at least 0 and finite", at_least_zero)?;
        }
        match self.preferences.and_then(|values| values.iter().position(|x| x.is_nan())) {
            Some(index) => Err(Error::NotANumber { what: "preference", index }),
            None => Ok(()),
        }
    }
}
