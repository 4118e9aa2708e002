//! What is searched: named dimensions and how the unit cube maps to them.

mod dimension;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use dimension::{Dimension, Domain, Scale};

use crate::Error;

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

/// Bounds side by side, for a loop without branches: as rounding is monotone, what starts in `[0, 1]` ends in `[low, low + width]`.
#[derive(Debug, Clone, PartialEq)]
struct Linear {
    low: Vec<f64>,
    width: Vec<f64>,
}

impl Linear {
    fn new(dimensions: &[Dimension]) -> Option<Self> {
        let bounds = |dimension: &Dimension| match dimension.domain {
            Domain::Float { low, high, scale: Scale::Linear } => Some((low, width(low, high))),
            _ => None,
        };
        let (low, width) = dimensions.iter().map(bounds).collect::<Option<_>>()?;
        Some(Self { low, width })
    }

    #[inline]
    fn decode(&self, u: &[f64], x: &mut [f64]) {
        let n = x.len();
        let (u, low, width) = (&u[..n], &self.low[..n], &self.width[..n]);
        for i in 0..n {
            x[i] = low[i] + u[i] * width[i];
        }
    }
}

/// The largest number not above `high - low` whose sum with `low`, as rounded, is not above `high`.
fn width(low: f64, high: f64) -> f64 {
    let mut width = high - low;
    while low + width > high {
        width = width.next_down();
    }
    width
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
