//! Entries of a saved state by name.

use std::collections::BTreeMap;

use dynlora_core::{AgentId, Error, ResonanceState};

/// A state whose entries are found without walking all of them.
#[derive(Debug)]
pub(crate) struct Saved<'s> {
    tensors: BTreeMap<&'s str, &'s [f32]>,
    numbers: BTreeMap<&'s str, f64>,
}

impl<'s> Saved<'s> {
    pub(crate) fn new(state: &'s ResonanceState) -> Self {
        Self {
            tensors: state.tensors.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect(),
            numbers: state.numbers.iter().map(|(name, value)| (name.as_str(), *value)).collect(),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&'s [f32], Error> {
        let values = *self.tensors.get(name).ok_or_else(|| Error::state(name, "a vector", "nothing"))?;
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(Error::state(name, "finite values", value)),
            None => Ok(values),
        }
    }

    /// The tensor called `name`, of this length.
    pub(crate) fn tensor_of(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        let values = self.tensor(name)?;
        if values.len() == length {
            Ok(values.to_vec())
        } else {
            Err(Error::state(name, format!("{length} values"), values.len()))
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<f64, Error> {
        let value = *self.numbers.get(name).ok_or_else(|| Error::state(name, "a number", "nothing"))?;
        if value.is_finite() { Ok(value) } else { Err(Error::state(name, "a finite number", value)) }
    }

    /// The number called `name` if there is one.
    pub(crate) fn optional(&self, name: &str) -> Result<Option<f64>, Error> {
        if self.numbers.contains_key(name) { self.number(name).map(Some) } else { Ok(None) }
    }

    pub(crate) fn at_least_zero(&self, name: &str) -> Result<f64, Error> {
        let value = self.number(name)?;
        if value >= 0.0 { Ok(value) } else { Err(Error::state(name, "a number of at least 0", value)) }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<u64, Error> {
        let value = self.at_least_zero(name)?;
        let whole = value <= (1_u64 << 53) as f64 && value.fract() == 0.0;
        if whole { Ok(value as u64) } else { Err(Error::state(name, "a whole number from 0 to 2^53", value)) }
    }

    /// The agents `id` for which there is a number `<prefix>.agent.<id>.<entry>`, ascending.
    pub(crate) fn agents(&self, prefix: &str, entry: &str) -> Result<Vec<AgentId>, Error> {
        let (prefix, suffix) = (format!("{prefix}.agent."), format!(".{entry}"));
        let mut agents = Vec::new();
        for name in self.numbers.keys() {
            let Some(id) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&suffix)) else { continue };
            agents.push(AgentId(id.parse().map_err(|_| Error::state(name, "the number of an agent", id))?));
        }
        agents.sort_unstable();
        Ok(agents)
    }
}
