//! The settings of a trainer as flags.
//!
//! A trainer's configuration is a plain serialisable struct with defaults. Its keys become flags, its defaults are shown in the
//! help, and every value is checked by the struct itself: nothing about it is written down twice but a line of help a key.

use std::marker::PhantomData;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A configuration whose keys are flags.
pub(crate) trait Settings: Default + Serialize + DeserializeOwned + std::fmt::Debug {
    /// Heading of its flags in help texts.
    const HEADING: &'static str;
    /// Keys and their help, in the order of the help. Keys that are set in other ways are not among them.
    const KEYS: &'static [(&'static str, &'static str)];
    /// Keys that are set in other ways.
    const ELSEWHERE: &'static [&'static str];
    /// Values that differ from the struct's default.
    const DEFAULTS: &'static [(&'static str, f64)];

    /// The defaults as an object.
    fn object() -> Map<String, Value> {
        let mut object = match serde_json::to_value(Self::default()) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        for (key, value) in Self::DEFAULTS {
            object.insert((*key).to_owned(), Value::from(*value));
        }
        object
    }
}

/// The keys that were given.
#[derive(Debug, Clone)]
pub(crate) struct Given<S> {
    values: Map<String, Value>,
    settings: PhantomData<S>,
}

impl<S: Settings> Given<S> {
    /// The configuration: what was given over the defaults.
    pub(crate) fn settings(&self) -> anyhow::Result<S> {
        Ok(self.over(S::object())?)
    }

    /// The configuration: what was given over another one.
    pub(crate) fn settings_over(&self, base: &S) -> anyhow::Result<S> {
        match serde_json::to_value(base)? {
            Value::Object(object) => Ok(self.over(object)?),
            _ => Ok(self.over(S::object())?),
        }
    }

    fn over(&self, mut object: Map<String, Value>) -> serde_json::Result<S> {
        object.extend(self.values.clone());
        serde_json::from_value(Value::Object(object))
    }

    /// Whether a key was given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

impl<S: Settings> FromArgMatches for Given<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self { values: Map::new(), settings: PhantomData };
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (key, _) in S::KEYS {
            if let Some(text) = matches.get_one::<String>(key) {
                let value = parse::<S>(key, text).map_err(|problem| {
                    let message = format!("invalid value '{text}' for '--{}': {problem}", key.replace('_', "-"));
                    clap::Error::raw(ErrorKind::ValueValidation, message)
                })?;
                self.values.insert((*key).to_owned(), value);
            }
        }
        Ok(())
    }
}

impl<S: Settings> Args for Given<S> {
    fn augment_args(command: Command) -> Command {
        let defaults = S::object();
        let args = S::KEYS.iter().map(|(key, help)| {
            let default = defaults.get(*key).unwrap_or(&Value::Null);
            let shown = match default {
                Value::Null => String::new(),
                Value::String(word) => format!(" [default: {word}]"),
                value => format!(" [default: {value}]"),
            };
            let arg = Arg::new(*key)
                .long(key.replace('_', "-"))
                .help(format!("{help}{shown}"))
                .help_heading(S::HEADING)
                .action(ArgAction::Set);
            match default {
                Value::Bool(_) => {
                    arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
                }
                Value::String(_) => arg.value_name("NAME"),
                _ => arg.value_name("N"),
            }
        });
        command.args(args)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A value of a key, if the configuration takes it.
fn parse<S: Settings>(key: &str, text: &str) -> Result<Value, String> {
    let takes = |value: &Value| {
        let mut object = S::object();
        object.insert(key.to_owned(), value.clone());
        serde_json::from_value::<S>(Value::Object(object)).map(|_| ())
    };
    let value = serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_object() && !value.is_array());
    let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
    match takes(&value) {
        Ok(()) => Ok(value),
        // `none` is a word to some keys, and to others the absence of a value.
        Err(_) if text == "none" && takes(&Value::Null).is_ok() => Ok(Value::Null),
        Err(error) => Err(error.to_string()),
    }
}

/// The configuration as keys that give it again, whatever its defaults are.
pub(crate) fn to_table<S: Settings>(settings: &S) -> anyhow::Result<toml::Table> {
    let mut table = toml::Table::try_from(settings)?;
    table.retain(|key, _| !is_elsewhere::<S>(key));
    for (key, default) in S::object() {
        if !default.is_null() && !table.contains_key(&key) && !is_elsewhere::<S>(&key) {
            table.insert(key, toml::Value::String("none".to_owned()));
        }
    }
    Ok(table)
}

fn is_elsewhere<S: Settings>(key: &str) -> bool {
    S::ELSEWHERE.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use krystal::grpo::{GrpoConfig, SftConfig};

    fn check_keys<S: Settings>() {
        let mut known: Vec<String> = S::object().keys().cloned().collect();
        let mut declared: Vec<String> =
            S::KEYS.iter().map(|(key, _)| *key).chain(S::ELSEWHERE.iter().copied()).map(str::to_owned).collect();
        known.sort();
        declared.sort();
        assert_eq!(declared, known);
    }

    #[test]
    fn every_key_is_a_flag() {
        check_keys::<GrpoConfig>();
        check_keys::<SftConfig>();
    }

    fn given(arguments: &[&str]) -> Result<Given<GrpoConfig>, clap::Error> {
        let command = Given::<GrpoConfig>::augment_args(Command::new("test").no_binary_name(true));
        Given::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn values_are_those_of_the_configuration() {
        let config = given(&[
            "--learning-rate=1e-3",
            "--loss-type=dr_grpo",
            "--scale-rewards=none",
            "--rollout-correction-max=none",
            "--max-steps",
            "7",
            "--use-adaptive-entropy",
            "--shuffle-dataset=false",
        ])
        .unwrap()
        .settings()
        .unwrap();
        assert_eq!((config.learning_rate, config.max_steps, config.rollout_correction_max), (1e-3, Some(7), None));
        assert!(config.use_adaptive_entropy && !config.shuffle_dataset);
        assert_eq!(serde_json::to_value(config.scale_rewards).unwrap(), "none");
        // What is written gives the same again.
        let table = to_table(&config).unwrap();
        let arguments: Vec<String> = table
            .iter()
            .map(|(key, value)| match value {
                toml::Value::String(word) => format!("--{}={word}", key.replace('_', "-")),
                value => format!("--{}={value}", key.replace('_', "-")),
            })
            .collect();
        let again = given(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().settings().unwrap();
        assert_eq!(GrpoConfig { seed: config.seed, ..again }, config);
    }

    #[test]
    fn wrong_values_name_the_flag() {
        for (argument, parts) in [
            ("--learning-rate=fast", ["--learning-rate", "fast"]),
            ("--loss-type=ppo", ["--loss-type", "dr_grpo"]),
            ("--num-generations=-2", ["--num-generations", "-2"]),
            ("--shuffle-dataset=maybe", ["--shuffle-dataset", "maybe"]),
        ] {
            let error = given(&[argument]).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
