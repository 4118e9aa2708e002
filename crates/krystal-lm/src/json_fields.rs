//! One JSON object of a model folder, read field by field, so that no field goes unread in silence.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Most characters of a value that an error shows.
const SHOWN: usize = 120;

/// A JSON object being read. Every field asked for counts as read; [`Fields::finish`] refuses the others.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    origin: &'a Path,
    /// `rope_scaling.` inside `rope_scaling`, empty at the top.
    prefix: String,
    map: &'a Map<String, Value>,
    read: BTreeSet<&'static str>,
}

/// Parses `text` as a JSON object.
pub(crate) fn parse_object(text: &str, origin: &Path) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|source| Error::Json { path: origin.to_owned(), source })
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>, origin: &'a Path) -> Self {
        Self { origin, prefix: String::new(), map, read: BTreeSet::new() }
    }

    /// The object `value` of field `name`.
    pub(crate) fn nested(&self, name: &str, value: &'a Value) -> Result<Self> {
        match value.as_object() {
            Some(map) => {
                Ok(Self { origin: self.origin, prefix: format!("{}{name}.", self.prefix), map, read: BTreeSet::new() })
            }
            None => Err(self.invalid(name, "an object or null", value)),
        }
    }

    /// The value as it is; `None` where the field is absent.
    pub(crate) fn raw(&mut self, name: &'static str) -> Option<&'a Value> {
        self.read.insert(name);
        self.map.get(name)
    }

    /// The value; `None` where the field is absent or null.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.raw(name).filter(|value| !value.is_null())
    }

    /// A whole number from 1 to `i32::MAX`.
    pub(crate) fn size(&mut self, name: &'static str) -> Result<Option<usize>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|size| i32::try_from(size).ok()) {
            Some(size) if size > 0 => Ok(Some(size as usize)),
            _ => Err(self.invalid(name, "a whole number from 1 to 2147483647", value)),
        }
    }

    pub(crate) fn required_size(&mut self, name: &'static str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.missing(name))
    }

    /// A finite number.
    pub(crate) fn number(&mut self, name: &'static str) -> Result<Option<f64>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.invalid(name, "a finite number", value)),
        }
    }

    /// A finite number above 0. A NaN does not get here: JSON has none.
    pub(crate) fn positive(&mut self, name: &'static str) -> Result<Option<f64>> {
        match self.number(name)? {
            Some(number) if number <= 0.0 => Err(self.invalid(name, "a number above 0", &self.map[name])),
            number => Ok(number),
        }
    }

    pub(crate) fn required_positive(&mut self, name: &'static str) -> Result<f64> {
        self.positive(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Result<Option<bool>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        value.as_bool().map(Some).ok_or_else(|| self.invalid(name, "true or false", value))
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<&'a str>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or_else(|| self.invalid(name, "a string", value))
    }

    /// A token id, or null.
    pub(crate) fn token(&mut self, name: &'static str) -> Result<Option<u32>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        token_id(value).map(Some).ok_or_else(|| self.invalid(name, "a token id or null", value))
    }

    /// `pad_token_id`; -1, which some old conversions wrote for "none", is none.
    pub(crate) fn pad_token(&mut self) -> Result<Option<u32>> {
        match self.value("pad_token_id") {
            Some(value) if value.as_i64() == Some(-1) => Ok(None),
            _ => self.token("pad_token_id"),
        }
    }

    /// A token id, a list of them, or null.
    pub(crate) fn tokens(&mut self, name: &'static str) -> Result<Option<Vec<u32>>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let ids = match value {
            Value::Array(ids) => ids.iter().map(token_id).collect(),
            one => token_id(one).map(|id| vec![id]),
        };
        ids.map(Some).ok_or_else(|| self.invalid(name, "a token id, a list of token ids or null", value))
    }

    /// Refuses any value but null and those for which `neutral` holds.
    pub(crate) fn refuse_unless(
        &mut self,
        name: &'static str,
        supported: &str,
        neutral: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        match self.value(name) {
            Some(value) if !neutral(value) => Err(self.unsupported(name, value, supported)),
            _ => Ok(()),
        }
    }

    /// Names of the fields not asked for.
    pub(crate) fn unread(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + '_ {
        self.map.iter().filter(|(name, _)| !self.read.contains(name.as_str()))
    }

    /// Refuses fields that were not asked for and are not in `ignored`.
    pub(crate) fn finish(&self, ignored: &[&str]) -> Result<()> {
        match self.unread().find(|(name, _)| !ignored.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, value)) => Err(Error::UnknownField {
                path: self.origin.to_owned(),
                field: format!("{}{name}", self.prefix),
                value: shown(value),
            }),
        }
    }

    pub(crate) fn missing(&self, name: &str) -> Error {
        Error::MissingField { path: self.origin.to_owned(), field: format!("{}{name}", self.prefix) }
    }

    pub(crate) fn invalid(&self, name: &str, expected: impl Into<String>, value: &Value) -> Error {
        Error::InvalidField {
            path: self.origin.to_owned(),
            field: format!("{}{name}", self.prefix),
            expected: expected.into(),
            found: shown(value),
        }
    }

    pub(crate) fn unsupported(&self, name: &str, value: &Value, supported: &str) -> Error {
        Error::UnsupportedField {
            path: self.origin.to_owned(),
            field: format!("{}{name}", self.prefix),
            value: shown(value),
            supported: supported.to_owned(),
        }
    }
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// The value as JSON on one line, cut after [`SHOWN`] characters.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
