//! `KEY=VALUE,KEY=VALUE`.

use std::str::FromStr;

use super::invalid;
use super::known::{KnownReward, parameter_names};
use crate::{Error, GoldColumn};

/// The parameters of one reward as written.
pub(super) struct Parameters<'a> {
    reward: &'static str,
    written: Vec<(&'a str, &'a str)>,
    /// The command line of `command`.
    pub(super) rest: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(known: &KnownReward, body: Option<&'a str>) -> Result<Self, Error> {
        let mut parameters = Self { reward: known.name, written: Vec::new(), rest: None };
        let Some(body) = body else { return Ok(parameters) };
        match known.name {
            "command" => {
                let timeout = body.strip_prefix("timeout=").and_then(|rest| rest.split_once(','));
                parameters.written.extend(timeout.map(|(value, _)| ("timeout", value.trim())));
                parameters.rest = Some(timeout.map_or(body, |(_, line)| line));
            }
            "regex" => match body.split_once('=') {
                Some(("pattern", pattern)) => parameters.written.push(("pattern", pattern)),
                _ => return Err(parameters.unknown(known, body)),
            },
            _ => {
                for segment in body.split(',') {
                    let (key, value) = segment.split_once('=').unwrap_or((segment, ""));
                    let (key, value) = (key.trim(), value.trim());
                    if !parameter_names(known).any(|name| name == key) {
                        return Err(parameters.unknown(known, key));
                    }
                    if value.is_empty() {
                        return Err(invalid(known.name, "KEY=VALUE", segment));
                    }
                    if parameters.written.iter().any(|(earlier, _)| *earlier == key) {
                        return Err(Error::RepeatedParameter { reward: known.name, key: key.to_owned() });
                    }
                    parameters.written.push((key, value));
                }
            }
        }
        Ok(parameters)
    }

    fn unknown(&self, known: &KnownReward, key: &str) -> Error {
        let key = key.split_once('=').map_or(key, |(key, _)| key);
        let expected = if known.parameters.is_empty() {
            "it has no parameters".to_owned()
        } else {
            format!("expected {}", known.parameters)
        };
        Error::UnknownParameter { reward: self.reward, key: key.to_owned(), expected }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<&'a str> {
        self.written.iter().find(|(written, _)| *written == key).map(|(_, value)| *value)
    }

    pub(super) fn column(&mut self) -> GoldColumn {
        self.take("column").map_or(GoldColumn::Usual, |name| GoldColumn::Named(name.to_owned()))
    }

    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, expected: &'static str) -> Result<Option<T>, Error> {
        let reward = self.reward;
        self.take(key).map(|value| value.parse().map_err(|_| invalid(reward, expected, value))).transpose()
    }

    pub(super) fn finite(&mut self, key: &str, expected: &'static str) -> Result<Option<f64>, Error> {
        let value = self.parsed::<f64>(key, expected)?;
        match value {
            Some(number) if !number.is_finite() => Err(invalid(self.reward, expected, &number.to_string())),
            value => Ok(value),
        }
    }
}
