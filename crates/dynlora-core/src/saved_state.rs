//! What parts of a hierarchy are saved as: named tensors and numbers.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AgentId, Error};

/// The memory of a layer, of a [`Resonance`](crate::Resonance) or of another part, as plain data for checkpoints and files.
///
/// Entries keep their order. A part that is restored reads them by name with a [`StateReader`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SavedState {
    /// Tensors by name, flat.
    pub tensors: Vec<(String, Vec<f32>)>,
    /// Numbers by name; whole ones are exact up to 2^53.
    pub numbers: Vec<(String, f64)>,
}

impl SavedState {
    /// A state of these entries.
    pub fn new(tensors: Vec<(String, Vec<f32>)>, numbers: Vec<(String, f64)>) -> Self {
        Self { tensors, numbers }
    }

    /// Adds a tensor.
    pub fn set_tensor(&mut self, name: impl Into<String>, values: impl Into<Vec<f32>>) {
        self.tensors.push((name.into(), values.into()));
    }

    /// Adds a number.
    pub fn set_number(&mut self, name: impl Into<String>, value: f64) {
        self.numbers.push((name.into(), value));
    }

    /// Reads entries by name.
    pub fn reader(&self) -> StateReader<'_> {
        let tensors = self.tensors.iter().map(|(name, values)| (name.as_str(), (values.as_slice(), Cell::new(false))));
        let numbers = self.numbers.iter().map(|(name, value)| (name.as_str(), (*value, Cell::new(false))));
        StateReader { tensors: tensors.collect(), numbers: numbers.collect() }
    }
}

/// Reads a [`SavedState`] by name. What is not there, not finite or not of the kind asked for is an [`Error::State`] with the
/// entry's name.
#[derive(Debug)]
pub struct StateReader<'s> {
    /// With whether they were read.
    tensors: BTreeMap<&'s str, (&'s [f32], Cell<bool>)>,
    numbers: BTreeMap<&'s str, (f64, Cell<bool>)>,
}

impl<'s> StateReader<'s> {
    /// Whether there is a tensor called `name`.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// [`Error::State`] if there is none, or a value in it is not finite.
    pub fn tensor(&self, name: &str) -> Result<&'s [f32], Error> {
        let (values, is_read) = self.tensors.get(name).ok_or_else(|| Error::state(name, "a tensor", "nothing"))?;
        is_read.set(true);
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(Error::state(name, "finite values", value)),
            None => Ok(values),
        }
    }

    /// The tensor called `name`, of this length.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor), or [`Error::State`] for another length.
    pub fn tensor_of(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        let values = self.tensor(name)?;
        match values.len() == length {
            true => Ok(values.to_vec()),
            false => Err(Error::state(name, format!("{length} values"), values.len())),
        }
    }

    /// The tensor called `name`, of this length, whose values are bytes.
    ///
    /// # Errors
    /// As [`tensor_of`](Self::tensor_of), or [`Error::State`] for a value that is not a whole number from 0 to 255.
    pub fn bytes_of(&self, name: &str, length: usize) -> Result<Vec<u8>, Error> {
        let byte = |value: f32| {
            let is_byte = value.fract() == 0.0 && (0.0..=255.0).contains(&value);
            if is_byte { Ok(value as u8) } else { Err(Error::state(name, "whole numbers from 0 to 255", value)) }
        };
        self.tensor_of(name, length)?.into_iter().map(byte).collect()
    }

    /// The number called `name`.
    ///
    /// # Errors
    /// [`Error::State`] if there is none, or it is not finite.
    pub fn number(&self, name: &str) -> Result<f64, Error> {
        self.optional(name)?.ok_or_else(|| Error::state(name, "a number", "nothing"))
    }

    /// The number called `name` if there is one.
    ///
    /// # Errors
    /// [`Error::State`] if it is not finite.
    pub fn optional(&self, name: &str) -> Result<Option<f64>, Error> {
        let Some((value, is_read)) = self.numbers.get(name) else { return Ok(None) };
        is_read.set(true);
        if value.is_finite() { Ok(Some(*value)) } else { Err(Error::state(name, "a finite number", value)) }
    }

    /// The number called `name`, not below zero.
    ///
    /// # Errors
    /// As [`number`](Self::number), or [`Error::State`] if it is below zero.
    pub fn at_least_zero(&self, name: &str) -> Result<f64, Error> {
        let value = self.number(name)?;
        if value >= 0.0 { Ok(value) } else { Err(Error::state(name, "a number of at least 0", value)) }
    }

    /// The count called `name`.
    ///
    /// # Errors
    /// As [`number`](Self::number), or [`Error::State`] if it is not a whole number from 0 to 2^53.
    pub fn integer(&self, name: &str) -> Result<u64, Error> {
        let value = self.number(name)?;
        let is_whole = value >= 0.0 && value <= (1_u64 << 53) as f64 && value.fract() == 0.0;
        if is_whole { Ok(value as u64) } else { Err(Error::state(name, "a whole number from 0 to 2^53", value)) }
    }

    /// The number called `name` as yes or no.
    ///
    /// # Errors
    /// As [`number`](Self::number), or [`Error::State`] if it is neither 0 nor 1.
    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.number(name)? {
            0.0 => Ok(false),
            1.0 => Ok(true),
            other => Err(Error::state(name, "0 or 1", other)),
        }
    }

    /// The agents `id` for which there is a number `<prefix>.agent.<id>.<entry>`, ascending.
    ///
    /// # Errors
    /// [`Error::State`] where an id is no number.
    pub fn agents(&self, prefix: &str, entry: &str) -> Result<Vec<AgentId>, Error> {
        let (prefix, suffix) = (format!("{prefix}.agent."), format!(".{entry}"));
        let mut agents = Vec::new();
        for name in self.numbers.keys() {
            let Some(id) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&suffix)) else { continue };
            agents.push(AgentId(id.parse().map_err(|_| Error::state(name, "the number of an agent", id))?));
        }
        agents.sort_unstable();
        Ok(agents)
    }

    /// Checks that every entry was read: one that nobody knows belongs to something else.
    ///
    /// # Errors
    /// [`Error::State`] with the first that was not.
    pub fn finish(self) -> Result<(), Error> {
        let numbers = self.numbers.iter().map(|(name, (_, is_read))| (name, is_read));
        let tensors = self.tensors.iter().map(|(name, (_, is_read))| (name, is_read));
        match numbers.chain(tensors).find(|(_, is_read)| !is_read.get()) {
            Some((name, _)) => Err(Error::state(name, "nothing", "a value")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> SavedState {
        let mut state = SavedState::default();
        state.set_tensor("t", [1.0, 255.0]);
        state.set_tensor("nan", [0.0, f32::NAN]);
        state.set_number("n", -1.5);
        state.set_number("count", (1_u64 << 53) as f64);
        state.set_number("infinite", f64::INFINITY);
        state.set_number("yes", 1.0);
        state
    }

    #[test]
    fn entries_are_what_was_set() {
        let state = state();
        let reader = state.reader();
        assert_eq!(reader.tensor("t").unwrap(), [1.0, 255.0]);
        assert_eq!(reader.tensor_of("t", 2).unwrap(), [1.0, 255.0]);
        assert_eq!(reader.bytes_of("t", 2).unwrap(), [1, 255]);
        assert_eq!((reader.number("n").unwrap(), reader.optional("m").unwrap()), (-1.5, None));
        assert_eq!((reader.integer("count").unwrap(), reader.flag("yes").unwrap()), (1 << 53, true));
        assert!(reader.has_tensor("t") && !reader.has_tensor("n"));
    }

    #[test]
    fn agents_are_found_by_their_entries() {
        let mut state = SavedState::default();
        for id in ["10", "9", "1"] {
            state.set_number(format!("p.agent.{id}.seen"), 0.0);
        }
        state.set_number("p.agent.2.opposed", 0.0);
        state.set_number("q.agent.3.seen", 0.0);
        assert_eq!(state.reader().agents("p", "seen").unwrap(), [AgentId(1), AgentId(9), AgentId(10)]);
        state.set_number("p.agent.x.seen", 0.0);
        let error = state.reader().agents("p", "seen").unwrap_err().to_string();
        assert!(error.contains("`p.agent.x.seen`"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let state = state();
        let reader = state.reader();
        let refused = |found: Result<(), Error>, expected: &str| {
            assert_eq!(found.unwrap_err().to_string(), format!("entry {expected}"));
        };
        refused(reader.tensor("n").map(drop), "`n` of the saved state: expected a tensor, found nothing");
        refused(reader.tensor("nan").map(drop), "`nan` of the saved state: expected finite values, found NaN");
        refused(reader.tensor_of("t", 3).map(drop), "`t` of the saved state: expected 3 values, found 2");
        refused(reader.number("t").map(drop), "`t` of the saved state: expected a number, found nothing");
        refused(
            reader.optional("infinite").map(drop),
            "`infinite` of the saved state: expected a finite number, found inf",
        );
        refused(
            reader.at_least_zero("n").map(drop),
            "`n` of the saved state: expected a number of at least 0, found -1.5",
        );
        refused(
            reader.integer("n").map(drop),
            "`n` of the saved state: expected a whole number from 0 to 2^53, found -1.5",
        );
        refused(reader.flag("n").map(drop), "`n` of the saved state: expected 0 or 1, found -1.5");
        let bytes = SavedState::new(vec![("b".to_owned(), vec![256.0])], Vec::new());
        refused(
            bytes.reader().bytes_of("b", 1).map(drop),
            "`b` of the saved state: expected whole numbers from 0 to 255, found 256",
        );
    }

    #[test]
    fn an_entry_that_nobody_reads_is_refused() {
        let mut state = SavedState::default();
        state.set_tensor("t", Vec::new());
        state.set_number("n", 0.0);
        let reader = state.reader();
        reader.number("n").unwrap();
        assert_eq!(
            reader.finish().unwrap_err().to_string(),
            "entry `t` of the saved state: expected nothing, found a value"
        );
        let reader = state.reader();
        reader.number("n").unwrap();
        reader.tensor("t").unwrap();
        reader.finish().unwrap();
    }
}
