//! What is searched: named dimensions and how the unit cube maps to them.

use std::fmt;

use serde::{Deserialize, Serialize};

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

    fn check(&self) -> Result<(), Error> {
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
    fn n_coordinates(&self) -> usize {
        match &self.domain {
            Domain::Categorical { choices } if choices.len() > 2 => choices.len(),
            _ => 1,
        }
    }

    fn decode(&self, u: &[f64]) -> f64 {
        match &self.domain {
            &Domain::Float { low, high, scale: Scale::Linear } => (low + u[0] * (high - low)).clamp(low, high),
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

    fn encode(&self, value: f64, u: &mut [f64]) -> Result<(), Error> {
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

/// A value with its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Of a [`Domain::Float`].
    Float(f64),
    /// Of a [`Domain::Integer`].
    Integer(i64),
    /// Of a [`Domain::Categorical`].
    Category(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(x) => x.fmt(f),
            Self::Integer(x) => x.fmt(f),
            Self::Category(x) => x.fmt(f),
        }
    }
}

/// Bounds side by side, for a loop without branches.
#[derive(Debug, Clone, PartialEq)]
struct Linear {
    low: Vec<f64>,
    width: Vec<f64>,
    high: Vec<f64>,
}

impl Linear {
    fn new(dimensions: &[Dimension]) -> Option<Self> {
        let bounds = |dimension: &Dimension| match dimension.domain {
            Domain::Float { low, high, scale: Scale::Linear } => Some((low, high)),
            _ => None,
        };
        let (low, high): (Vec<_>, Vec<_>) = dimensions.iter().map(bounds).collect::<Option<_>>()?;
        let width = low.iter().zip(&high).map(|(low, high)| high - low).collect();
        Some(Self { low, width, high })
    }

    #[inline]
    fn decode(&self, u: &[f64], x: &mut [f64]) {
        let n = x.len();
        let (u, low, width, high) = (&u[..n], &self.low[..n], &self.width[..n], &self.high[..n]);
        for i in 0..n {
            let inside = low[i] + u[i] * width[i];
            x[i] = if inside > high[i] { high[i] } else { inside };
        }
    }
}

/// Named dimensions, checked.
///
/// Swarms move in a unit cube; a *point* has one number a dimension: the number itself, or the index of a choice. A number takes
/// one coordinate of the cube; integers divide theirs into equal intervals. Names are embedded: two share one coordinate, more have
/// one each, and the largest wins, so that every choice is as near as every other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Dimension>", into = "Vec<Dimension>")]
pub struct SearchSpace {
    dimensions: Vec<Dimension>,
    n_coordinates: usize,
    /// Where all are floats on linear scales.
    linear: Option<Linear>,
}

impl SearchSpace {
    /// The space of these dimensions.
    ///
    /// # Errors
    /// Without dimensions, with a name twice, or where a domain holds nothing.
    pub fn new(dimensions: Vec<Dimension>) -> Result<Self, Error> {
        if dimensions.is_empty() {
            return Err(Error::NoDimensions);
        }
        let mut names: Vec<_> = dimensions.iter().map(|dimension| &dimension.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::NameTwice { name: twice[0].clone() });
        }
        dimensions.iter().try_for_each(Dimension::check)?;
        let n_coordinates = dimensions.iter().map(Dimension::n_coordinates).sum();
        let linear = Linear::new(&dimensions);
        Ok(Self { dimensions, n_coordinates, linear })
    }

    /// `[low, high]^n_dims`, with dimensions called `x0`, `x1`, ...
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn cube(n_dims: usize, low: f64, high: f64) -> Result<Self, Error> {
        Self::new((0..n_dims).map(|i| Dimension::float(format!("x{i}"), low, high)).collect())
    }

    /// The dimensions.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// Dimensions, and numbers of a point.
    pub fn n_dims(&self) -> usize {
        self.dimensions.len()
    }

    /// Coordinates of the unit cube in which swarms move; as many as dimensions, but for names.
    pub fn n_coordinates(&self) -> usize {
        self.n_coordinates
    }

    /// The names and typed values of a point.
    ///
    /// # Errors
    /// Where the point is not of this space.
    pub fn values(&self, x: &[f64]) -> Result<Vec<(&str, Value)>, Error> {
        self.encode(x)?;
        let typed = |(dimension, &x): (&Dimension, &f64)| match &dimension.domain {
            Domain::Float { .. } => Value::Float(x),
            Domain::Integer { .. } => Value::Integer(x as i64),
            Domain::Categorical { choices } => Value::Category(choices[x as usize].clone()),
        };
        Ok(self.dimensions.iter().zip(x).map(|pair| (pair.0.name.as_str(), typed(pair))).collect())
    }

    /// The point of these values, given in any order.
    ///
    /// An integer is taken for a float. What [`values`](Self::values) gives comes back.
    ///
    /// # Errors
    /// Where a value is missing, unknown, given twice or not of its domain.
    pub fn point<'a>(&self, values: impl IntoIterator<Item = (&'a str, Value)>) -> Result<Vec<f64>, Error> {
        let mut x = vec![None; self.n_dims()];
        for (name, value) in values {
            let at = self.dimensions.iter().position(|dimension| dimension.name == name);
            let at = at.ok_or_else(|| Error::UnknownDimension { name: name.to_owned() })?;
            let number = match (&self.dimensions[at].domain, &value) {
                (Domain::Float { .. }, Value::Float(x)) => Some(*x),
                (Domain::Float { .. } | Domain::Integer { .. }, Value::Integer(x)) => Some(*x as f64),
                (Domain::Categorical { choices }, Value::Category(choice)) => {
                    choices.iter().position(|known| known == choice).map(|at| at as f64)
                }
                _ => None,
            };
            let expected = || match &self.dimensions[at].domain {
                Domain::Float { .. } => "a number".to_owned(),
                Domain::Integer { .. } => "an integer".to_owned(),
                Domain::Categorical { choices } => format!("one of {choices:?}"),
            };
            let refuse = || Error::Value { name: name.to_owned(), expected: expected(), found: value.to_string() };
            if x[at].replace(number.ok_or_else(refuse)?).is_some() {
                return Err(Error::NameTwice { name: name.to_owned() });
            }
        }
        let found = x.iter().flatten().count();
        let x: Option<Vec<f64>> = x.into_iter().collect();
        let x = x.ok_or(Error::PointLength { expected: self.n_dims(), found })?;
        self.encode(&x)?;
        Ok(x)
    }

    /// Where a point lies in the unit cube.
    pub(crate) fn encode(&self, x: &[f64]) -> Result<Vec<f64>, Error> {
        if x.len() != self.n_dims() {
            return Err(Error::PointLength { expected: self.n_dims(), found: x.len() });
        }
        let mut u = vec![0.0; self.n_coordinates];
        let mut rest = &mut u[..];
        for (dimension, &x) in self.dimensions.iter().zip(x) {
            let now;
            (now, rest) = rest.split_at_mut(dimension.n_coordinates());
            dimension.encode(x, now)?;
        }
        Ok(u)
    }

    /// The point at `u` of the unit cube.
    #[inline]
    pub(crate) fn decode(&self, u: &[f64], x: &mut [f64]) {
        if let Some(linear) = &self.linear {
            linear.decode(u, x);
            return;
        }
        let mut rest = u;
        for (dimension, x) in self.dimensions.iter().zip(x) {
            let now;
            (now, rest) = rest.split_at(dimension.n_coordinates());
            *x = dimension.decode(now);
        }
    }
}

impl TryFrom<Vec<Dimension>> for SearchSpace {
    type Error = Error;

    fn try_from(dimensions: Vec<Dimension>) -> Result<Self, Error> {
        Self::new(dimensions)
    }
}

impl From<SearchSpace> for Vec<Dimension> {
    fn from(space: SearchSpace) -> Self {
        space.dimensions
    }
}
