//! One dimension: its values, and the coordinates of the unit cube that stand for them.

use serde::{Deserialize, Serialize};

use super::width;
use crate::Error;

/// Integers up to here are exact in `f64`.
const EXACT: i64 = 1 << 53;

/// How a numeric dimension is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal differences are equally far.
    #[default]
    Linear,
    /// Equal ratios are equally far; needs a lower bound above zero. Goes through `exp`, whose last bit may differ between machines.
    Log,
}

/// The values that a dimension takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Domain {
    /// A real number in `[low, high]`.
    Float {
        /// Lower bound, itself included.
        low: f64,
        /// Upper bound, itself included.
        high: f64,
        /// Linear unless said otherwise.
        #[serde(default)]
        scale: Scale,
    },
    /// An integer in `low..=high`.
    Integer {
        /// Lower bound.
        low: i64,
        /// Upper bound, itself included.
        high: i64,
        /// Linear unless said otherwise.
        #[serde(default)]
        scale: Scale,
    },
    /// One of several names, in no order.
    Categorical {
        /// The names.
        choices: Vec<String>,
    },
}

/// A named dimension.
///
/// ```
/// use krystal_swarm::{Dimension, SearchSpace};
///
/// let space = SearchSpace::new(vec![
///     Dimension::float("learning_rate", 1e-6, 1e-2).log(),
///     Dimension::integer("layers", 1, 12),
///     Dimension::categorical("optimizer", ["adamw", "lion", "sgd"]),
/// ])?;
/// assert_eq!((space.n_dims(), space.n_coordinates()), (3, 5));
/// # Ok::<(), krystal_swarm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dimension {
    /// Its name.
    pub name: String,
    /// Its values.
    pub domain: Domain,
}

impl Dimension {
    /// A real number in `[low, high]`.
    pub fn float(name: impl Into<String>, low: f64, high: f64) -> Self {
        Self { name: name.into(), domain: Domain::Float { low, high, scale: Scale::Linear } }
    }

    /// An integer in `low..=high`.
    pub fn integer(name: impl Into<String>, low: i64, high: i64) -> Self {
        Self { name: name.into(), domain: Domain::Integer { low, high, scale: Scale::Linear } }
    }

    /// One of several names.
    pub fn categorical<S: Into<String>>(name: impl Into<String>, choices: impl IntoIterator<Item = S>) -> Self {
        let choices = choices.into_iter().map(Into::into).collect();
        Self { name: name.into(), domain: Domain::Categorical { choices } }
    }

    /// The same on a logarithmic scale; nothing changes for names.
    pub fn log(mut self) -> Self {
        if let Domain::Float { scale, .. } | Domain::Integer { scale, .. } = &mut self.domain {
            *scale = Scale::Log;
        }
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let name = || self.name.clone();
        let (low, high, scale) = match &self.domain {
            Domain::Categorical { choices } => {
                let differ = choices.iter().enumerate().all(|(i, choice)| !choices[..i].contains(choice));
                let fine = differ && !choices.is_empty();
                return if fine { Ok(()) } else { Err(Error::Choices { name: name(), choices: choices.clone() }) };
            }
            &Domain::Float { low, high, scale } => {
                if !(low < high && low.is_finite() && high.is_finite() && (high - low).is_finite()) {
                    return Err(Error::Bounds { name: name(), low, high });
                }
                (low, high, scale)
            }
            &Domain::Integer { low, high, scale } => {
                if let Some(&value) = [low, high].iter().find(|x| x.unsigned_abs() > EXACT.unsigned_abs()) {
                    return Err(Error::IntegerTooLarge { name: name(), value });
                }
                if low > high {
                    return Err(Error::Bounds { name: name(), low: low as f64, high: high as f64 });
                }
                (low as f64, high as f64, scale)
            }
        };
        if scale == Scale::Log && !(low > 0.0 && (high / low).is_finite()) {
            return Err(Error::LogBounds { name: name(), low });
        }
        Ok(())
    }

    /// Coordinates of the unit cube that encode it: one for a number or two names, else one for each name.
    pub(super) fn n_coordinates(&self) -> usize {
        match &self.domain {
            Domain::Categorical { choices } if choices.len() > 2 => choices.len(),
            _ => 1,
        }
    }

    pub(super) fn decode(&self, u: &[f64]) -> f64 {
        match &self.domain {
            &Domain::Float { low, high, scale: Scale::Linear } => low + u[0] * width(low, high),
            &Domain::Float { low, high, scale: Scale::Log } => {
                (low * (u[0] * (high / low).ln()).exp()).clamp(low, high)
            }
            &Domain::Integer { low, high, scale } => {
                let (low, high) = (low as f64, high as f64);
                let at = match scale {
                    Scale::Linear => low + u[0] * (high - low + 1.0),
                    Scale::Log => low * (u[0] * ((high + 1.0) / low).ln()).exp(),
                };
                at.floor().clamp(low, high)
            }
            Domain::Categorical { choices } => match u {
                [u] => f64::from(u8::from(choices.len() == 2 && *u >= 0.5)),
                _ => (1..u.len()).fold(0, |best, i| if u[i] > u[best] { i } else { best }) as f64,
            },
        }
    }

    pub(super) fn encode(&self, value: f64, u: &mut [f64]) -> Result<(), Error> {
        let refuse = |expected: String| Error::Value { name: self.name.clone(), expected, found: value.to_string() };
        match &self.domain {
            &Domain::Float { low, high, scale } => {
                if !(low..=high).contains(&value) {
                    return Err(refuse(format!("a number in [{low}, {high}]")));
                }
                u[0] = match scale {
                    Scale::Linear => (value - low) / (high - low),
                    Scale::Log => (value / low).ln() / (high / low).ln(),
                };
            }
            &Domain::Integer { low, high, scale } => {
                let (low, high) = (low as f64, high as f64);
                if !((low..=high).contains(&value) && value.fract() == 0.0) {
                    return Err(refuse(format!("an integer in {low}..={high}")));
                }
                u[0] = match scale {
                    Scale::Linear => (value - low + 0.5) / (high - low + 1.0),
                    Scale::Log => ((value + 0.5) / low).ln() / ((high + 1.0) / low).ln(),
                };
            }
            Domain::Categorical { choices } => {
                if !((0.0..choices.len() as f64).contains(&value) && value.fract() == 0.0) {
                    return Err(refuse(format!("the index of one of {} choices", choices.len())));
                }
                match u {
                    [u] => *u = 0.25 + 0.5 * value,
                    _ => {
                        u.fill(0.25);
                        u[value as usize] = 0.75;
                    }
                }
            }
        }
        // Rounding must not lead out of the cube.
        u.iter_mut().for_each(|u| *u = u.clamp(0.0, 1.0));
        Ok(())
    }
}
