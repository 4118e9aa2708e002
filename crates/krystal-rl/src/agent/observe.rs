//! What an agent can be shown.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require_len};

/// Something that an agent can observe: numbers, by place or by name.
///
/// Implemented for slices and arrays of `f32` and `f64` (by place: exactly `state_dim` numbers), maps from names to numbers, and pairs of
/// name and number. `#[derive(Observe)]` implements it for structs whose fields are [`Observable`]; `#[observe(skip)]` leaves a field out and
/// `#[observe(rename = "name")]` names it otherwise.
///
/// ```
/// # #[cfg(feature = "derive")] {
/// use krystal_rl::{Agent, AgentConfig, Observe};
///
/// #[derive(Observe)]
/// struct Machine {
///     load: f32,
///     queue: [u32; 2],
///     #[observe(rename = "night")]
///     is_night: bool,
///     #[observe(skip)]
///     name: String,
/// }
///
/// let mut agent = Agent::new(AgentConfig::default())?;
/// agent.observe(&Machine { load: 0.5, queue: [3, 1], is_night: true, name: "a".to_owned() })?;
/// let names: Vec<String> = agent.names().collect();
/// assert_eq!(names, ["load", "queue[0]", "queue[1]", "night"]);
/// # }
/// # Ok::<(), krystal_rl::Error>(())
/// ```
pub trait Observe {
    /// Tells `seen` all numbers.
    ///
    /// # Errors
    /// Those of `seen`'s methods, handed on.
    fn observe(&self, seen: &mut Observation<'_>) -> Result<()>;
}

/// The name of a place of the state: of a number, or of one of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) index: Option<u32>,
}

impl Place {
    fn is(&self, name: &str, index: Option<u32>) -> bool {
        self.index == index && self.name == name
    }
}

/// An observation on its way into an agent.
///
/// A name gets the next free place of the state when it is first seen, and keeps it; a name that is missing counts as 0. Once all names are
/// known, nothing is allocated.
#[derive(Debug)]
pub struct Observation<'a> {
    pub(crate) places: &'a mut Vec<Place>,
    pub(crate) values: &'a mut [f64],
    pub(crate) filled: &'a mut [bool],
    /// Where the next name probably is: names come in the same order each time.
    pub(crate) next: usize,
}

impl Observation<'_> {
    /// The number called `name`.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::NamedTwice`], [`Error::NoRoom`].
    pub fn set(&mut self, name: &str, value: f64) -> Result<()> {
        self.put(name, None, value)
    }

    /// The `index`-th of several numbers called `name`.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_indexed(&mut self, name: &str, index: u32, value: f64) -> Result<()> {
        self.put(name, Some(index), value)
    }

    /// All numbers, by place.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NotFinite`].
    pub fn set_all(&mut self, values: impl ExactSizeIterator<Item = f64>) -> Result<()> {
        require_len("numbers in the observation", self.values.len(), values.len())?;
        for (at, (place, value)) in self.values.iter_mut().zip(values).enumerate() {
            if !value.is_finite() {
                return Err(Error::NotFinite { what: "number of the observation", index: at, found: value });
            }
            *place = value;
        }
        Ok(())
    }

    fn put(&mut self, name: &str, index: Option<u32>, value: f64) -> Result<()> {
        let expected = self.places.get(self.next).is_some_and(|place| place.is(name, index));
        let known = if expected { Some(self.next) } else { self.places.iter().position(|place| place.is(name, index)) };
        let at = known.unwrap_or(self.places.len());
        if at >= self.values.len() {
            return Err(Error::NoRoom { name: name.to_owned(), state_dim: self.values.len() });
        }
        if self.filled[at] {
            return Err(Error::NamedTwice { name: name.to_owned() });
        }
        if !value.is_finite() {
            return Err(Error::NotFinite { what: "number of the observation", index: at, found: value });
        }
        if known.is_none() {
            self.places.push(Place { name: name.to_owned(), index });
        }
        self.filled[at] = true;
        self.values[at] = value;
        self.next = at + 1;
        Ok(())
    }
}

/// A field that `#[derive(Observe)]` can observe: numbers, truth values (1 or 0), and arrays of them. Integers beyond 2^53 are rounded.
pub trait Observable {
    /// Tells `seen` the number or numbers called `name`.
    ///
    /// # Errors
    /// Those of `seen`'s methods, handed on.
    fn observe_as(&self, name: &str, seen: &mut Observation<'_>) -> Result<()>;
}

/// One number.
trait Scalar: Copy {
    fn number(self) -> f64;
}

macro_rules! scalar {
    ($($t:ty)*) => {$(
        impl Scalar for $t {
            fn number(self) -> f64 {
                self as f64
            }
        }

        impl Observable for $t {
            fn observe_as(&self, name: &str, seen: &mut Observation<'_>) -> Result<()> {
                seen.set(name, self.number())
            }
        }

        impl<const N: usize> Observable for [$t; N] {
            fn observe_as(&self, name: &str, seen: &mut Observation<'_>) -> Result<()> {
                (0_u32..).zip(self).try_for_each(|(index, x)| seen.set_indexed(name, index, x.number()))
            }
        }
    )*};
}
scalar!(f32 f64 i8 i16 i32 i64 isize u8 u16 u32 u64 usize);

impl Observable for bool {
    fn observe_as(&self, name: &str, seen: &mut Observation<'_>) -> Result<()> {
        seen.set(name, f64::from(u8::from(*self)))
    }
}

macro_rules! by_place {
    ($($t:ty)*) => {$(
        impl Observe for [$t] {
            fn observe(&self, seen: &mut Observation<'_>) -> Result<()> {
                seen.set_all(self.iter().map(|x| f64::from(*x)))
            }
        }

        impl<const N: usize> Observe for [$t; N] {
            fn observe(&self, seen: &mut Observation<'_>) -> Result<()> {
                self[..].observe(seen)
            }
        }

        impl Observe for Vec<$t> {
            fn observe(&self, seen: &mut Observation<'_>) -> Result<()> {
                self[..].observe(seen)
            }
        }
    )*};
}
by_place!(f32 f64);

impl<S: AsRef<str>> Observe for [(S, f64)] {
    fn observe(&self, seen: &mut Observation<'_>) -> Result<()> {
        self.iter().try_for_each(|(name, value)| seen.set(name.as_ref(), *value))
    }
}

impl<S: AsRef<str>, const N: usize> Observe for [(S, f64); N] {
    fn observe(&self, seen: &mut Observation<'_>) -> Result<()> {
        self[..].observe(seen)
    }
}

impl<S: AsRef<str>> Observe for BTreeMap<S, f64> {
    fn observe(&self, seen: &mut Observation<'_>) -> Result<()> {
        self.iter().try_for_each(|(name, value)| seen.set(name.as_ref(), *value))
    }
}

impl<S: AsRef<str>, H: BuildHasher> Observe for HashMap<S, f64, H> {
    /// Names that are new get their places in alphabetical order: a map has none of its own, and results must not depend on it.
    fn observe(&self, seen: &mut Observation<'_>) -> Result<()> {
        let is_new = |name: &str| !seen.places.iter().any(|place| place.is(name, None));
        if self.keys().any(|name| is_new(name.as_ref())) {
            let mut all: Vec<(&str, f64)> = self.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
            all.sort_unstable_by_key(|(name, _)| *name);
            return all[..].observe(seen);
        }
        self.iter().try_for_each(|(name, value)| seen.set(name.as_ref(), *value))
    }
}
