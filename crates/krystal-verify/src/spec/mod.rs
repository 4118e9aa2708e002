//! Rewards as they are written on a command line.

mod known;
mod list;
mod parameters;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::command::{Command, words};
use crate::rewards::calculator::Calculator;
use crate::rewards::exact::Exact;
use crate::rewards::math::Math;
use crate::rewards::numeric::Numeric;
use crate::rewards::pattern::Pattern;
use crate::rewards::repetition::Repetition;
use crate::rewards::soft_overlong::SoftOverlong;
use crate::rewards::think_format::ThinkFormat;
use crate::{Error, GoldColumn, Verifier};
use known::known;
use parameters::Parameters;

pub use known::{KnownReward, known_rewards};
pub use list::{WeightedReward, parse_rewards};

/// A reward and its parameters: plain data, built by [`RewardSpec::build`].
///
/// Written `NAME` or `NAME:KEY=VALUE,KEY=VALUE`; `Display` writes it back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RewardSpec {
    /// [`Exact`].
    Exact {
        /// Where the gold stands.
        column: GoldColumn,
    },
    /// [`Numeric`].
    Numeric {
        /// Where the gold stands.
        column: GoldColumn,
        /// Absolute tolerance, a decimal; default `0`.
        tolerance: String,
    },
    /// [`Math`].
    Math {
        /// Where the gold stands.
        column: GoldColumn,
    },
    /// [`Pattern`].
    Regex {
        /// The pattern.
        pattern: String,
    },
    /// [`ThinkFormat`].
    ThinkFormat,
    /// [`SoftOverlong`].
    SoftOverlong {
        /// Tokens; `None`: the run's longest completion.
        max: Option<usize>,
        /// Tokens.
        cache: usize,
    },
    /// [`Repetition`].
    Repetition {
        /// Tokens per n-gram, default 3.
        n: usize,
        /// Score of a completion that only repeats, default -1.
        penalty: f64,
    },
    /// [`Calculator`].
    Calculator {
        /// Score of a completion without annotations; `None` abstains.
        missing: Option<f64>,
    },
    /// [`Command`].
    Command {
        /// The command line, split at white space outside quotes.
        line: String,
        /// Seconds per item, default 10.
        timeout: f64,
    },
}

/// Seconds a reward command has for one item, unless said otherwise.
pub(crate) const DEFAULT_TIMEOUT: f64 = 10.0;

impl RewardSpec {
    /// The reward's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact { .. } => "exact",
            Self::Numeric { .. } => "numeric",
            Self::Math { .. } => "math",
            Self::Regex { .. } => "regex",
            Self::ThinkFormat => "think_format",
            Self::SoftOverlong { .. } => "soft_overlong",
            Self::Repetition { .. } => "repetition",
            Self::Calculator { .. } => "calculator",
            Self::Command { .. } => "command",
        }
    }

    /// Builds the verifier. A program is started when it is first asked, not here.
    ///
    /// # Errors
    /// Where a parameter's value makes no sense, or a pattern does not compile.
    pub fn build(&self) -> Result<Box<dyn Verifier>, Error> {
        Ok(match self {
            Self::Exact { column } => Box::new(Exact::new(column.clone())),
            Self::Numeric { column, tolerance } => Box::new(Numeric::new(column.clone(), tolerance)?),
            Self::Math { column } => Box::new(Math::new(column.clone())),
            Self::Regex { pattern } => Box::new(Pattern::new(pattern)?),
            Self::ThinkFormat => Box::new(ThinkFormat),
            Self::SoftOverlong { max, cache } => Box::new(SoftOverlong::new(*max, *cache)?),
            Self::Repetition { n, penalty } => Box::new(Repetition::new(*n, *penalty)?),
            Self::Calculator { missing } => Box::new(Calculator::new(*missing)),
            Self::Command { line, timeout } => {
                let timeout = Duration::try_from_secs_f64(*timeout).ok().filter(|timeout| !timeout.is_zero());
                let timeout =
                    timeout.ok_or_else(|| invalid("command", "timeout to be seconds > 0", &self.to_string()))?;
                Box::new(Command::new(words::split(line)?)?.with_timeout(timeout))
            }
        })
    }

    /// The reward `name` with the parameters written in `body`.
    fn parse(name: &str, body: Option<&str>) -> Result<Self, Error> {
        let known = known(name)?;
        let mut parameters = Parameters::new(known, body)?;
        let spec = match known.name {
            "exact" => Self::Exact { column: parameters.column() },
            "numeric" => Self::Numeric {
                column: parameters.column(),
                tolerance: parameters.take("tolerance").unwrap_or("0").to_owned(),
            },
            "math" => Self::Math { column: parameters.column() },
            "regex" => Self::Regex {
                pattern: parameters
                    .take("pattern")
                    .ok_or_else(|| invalid("regex", "pattern=REGEX", body.unwrap_or("")))?
                    .to_owned(),
            },
            "think_format" => Self::ThinkFormat,
            "soft_overlong" => Self::SoftOverlong {
                max: parameters.parsed("max", "max to be a number of tokens")?,
                cache: parameters
                    .parsed("cache", "cache to be a number of tokens")?
                    .ok_or_else(|| invalid("soft_overlong", "cache=TOKENS", body.unwrap_or("")))?,
            },
            "repetition" => Self::Repetition {
                n: parameters.parsed("n", "n to be a number of tokens")?.unwrap_or(3),
                penalty: parameters.parsed("penalty", "penalty to be a number <= 0")?.unwrap_or(-1.0),
            },
            "calculator" => Self::Calculator { missing: parameters.finite("missing", "missing to be a finite score")? },
            _ => Self::Command {
                timeout: parameters.finite("timeout", "timeout to be seconds > 0")?.unwrap_or(DEFAULT_TIMEOUT),
                line: parameters
                    .rest
                    .filter(|line| !line.trim().is_empty())
                    .ok_or_else(|| invalid("command", "a command line", body.unwrap_or("")))?
                    .to_owned(),
            },
        };
        // Values are checked now, so that a typing error does not surface after the model has been loaded.
        spec.build()?;
        Ok(spec)
    }
}

impl fmt::Display for RewardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters = Vec::new();
        match self {
            Self::Exact { column } | Self::Math { column } => parameters.extend(column_parameter(column)),
            Self::Numeric { column, tolerance } => {
                parameters.extend(column_parameter(column));
                parameters.push(format!("tolerance={tolerance}"));
            }
            Self::Regex { pattern } => parameters.push(format!("pattern={pattern}")),
            Self::ThinkFormat => {}
            Self::SoftOverlong { max, cache } => {
                parameters.extend(max.map(|max| format!("max={max}")));
                parameters.push(format!("cache={cache}"));
            }
            Self::Repetition { n, penalty } => parameters.push(format!("n={n},penalty={penalty}")),
            Self::Calculator { missing } => parameters.extend(missing.map(|score| format!("missing={score}"))),
            Self::Command { line, timeout } => parameters.push(format!("timeout={timeout},{line}")),
        }
        let colon = if parameters.is_empty() { "" } else { ":" };
        write!(f, "{}{colon}{}", self.name(), parameters.join(","))
    }
}

fn column_parameter(column: &GoldColumn) -> Option<String> {
    match column {
        GoldColumn::Usual => None,
        GoldColumn::Named(name) => Some(format!("column={name}")),
    }
}

impl FromStr for RewardSpec {
    type Err = Error;

    /// One reward, without a weight.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, body) = match text.split_once(':') {
            Some((name, body)) => (name, Some(body)),
            None => (text, None),
        };
        Self::parse(name.trim(), body)
    }
}

fn invalid(reward: &'static str, expected: &'static str, found: &str) -> Error {
    Error::InvalidParameter { reward, expected, found: found.to_owned() }
}
