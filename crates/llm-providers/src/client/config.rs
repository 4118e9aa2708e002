//! Settings of a client, from the program, a file and the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::detect::detect;
use super::limits::LimitConfig;
use super::prices::Prices;
use super::response_cache::CacheConfig;
use super::retry_policy::RetryPolicy;
use super::target::{Target, Vendor};
use super::timeouts::TimeoutConfig;
use crate::error::{Error, Result};

/// Reads a variable of the environment; `&|name| std::env::var(name).ok()` in programs, a table in tests.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variable of the target.
pub const TARGET_VARIABLE: &str = "LLM_TARGET";
/// The variable of the key for the server of [`TARGET_VARIABLE`], where it is not the vendor's own.
pub const KEY_VARIABLE: &str = "LLM_API_KEY";
/// The variable of the budget in US dollars.
pub const BUDGET_VARIABLE: &str = "LLM_BUDGET_USD";

/// Settings of a client, as far as they are set. A table (`timeouts`, `retry`, ...) is one setting: it comes from one place as a whole.
///
/// Keys are not read from files: name the variable or the file that has them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Which server and model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The key itself.
    #[serde(skip)]
    pub key: Option<SecretString>,
    /// The variable that has the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
    /// The file that has the key, and nothing else but white space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Deadlines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<TimeoutConfig>,
    /// Retries. Default: by the vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Bounds on calls, requests and tokens. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitConfig>,
    /// A cache of answers. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheConfig>,
    /// What models cost. Default: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// What may be spent, in US dollars. Default: without bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
}

impl ClientConfig {
    /// Settings with a target alone.
    pub fn new(target: Target) -> Self {
        Self { target: Some(target), ..Self::default() }
    }

    /// With a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<SecretString>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Origin {
    /// The program.
    Explicit,
    /// The configuration file.
    File,
    /// This variable of the environment.
    Environment(String),
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explicit => f.write_str("explicit"),
            Self::File => f.write_str("file"),
            Self::Environment(variable) => write!(f, "environment ({variable})"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Settings of a client, complete, and where each comes from. `Debug` shows no key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolvedConfig {
    /// Which server and model. Without an address it is the vendor's own server.
    pub target: Target,
    /// The key.
    pub key: Option<SecretString>,
    /// Deadlines.
    pub timeouts: TimeoutConfig,
    /// Retries; `None`: by the vendor.
    pub retry: Option<RetryPolicy>,
    /// Bounds on calls, requests and tokens.
    pub limits: LimitConfig,
    /// A cache of answers.
    pub cache: Option<CacheConfig>,
    /// What models cost.
    pub prices: Prices,
    /// What may be spent, in US dollars.
    pub budget_usd: Option<f64>,
    /// Where the values come from, by their names in [`ClientConfig`], and `address`.
    pub origins: BTreeMap<&'static str, Origin>,
}

/// Completes settings: what is explicit wins over the file, the file over the environment, that over the defaults. Without a target, one
/// is looked for with [`detect`].
///
/// A key goes where it was meant to go, and nowhere else:
///
/// - The vendors' variables (`OPENAI_API_KEY`, ...) to the vendor's own server, and to the one that the vendor's variable of the address
///   names (`OPENAI_BASE_URL`, ...).
/// - `LLM_API_KEY` to the server that `LLM_TARGET` names.
/// - The key that settings name to the target of these settings, whatever it is; the file's not to an explicit target where the file
///   has one of its own.
///
/// # Errors
///
/// [`Error::Configuration`] for values that are none, and where a vendor's own server needs a key and none is found.
pub fn resolve(explicit: &ClientConfig, file: &ClientConfig, environment: Environment<'_>) -> Result<ResolvedConfig> {
    let mut origins = BTreeMap::new();
    let variable =
        |name: &str| environment(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());

    let target = match pick("target", &explicit.target, &file.target, &mut origins) {
        Some(target) => target,
        None => {
            let found = detect(environment)?;
            origins.insert("target", Origin::Environment(found.variable));
            found.target
        }
    };
    let (target, owns_key) = match target.address {
        Some(_) => {
            origins.insert("address", origins["target"].clone());
            (target, false)
        }
        None => match variable(target.vendor.address_variable()) {
            Some(address) => {
                origins.insert("address", Origin::Environment(target.vendor.address_variable().to_owned()));
                (target.with_address(address), true)
            }
            None => {
                origins.insert("address", Origin::Default);
                (target, true)
            }
        },
    };
    let key = match named_key(explicit, Origin::Explicit, &variable, &mut origins)? {
        None if file.target.is_none() || explicit.target.is_none() => {
            named_key(file, Origin::File, &variable, &mut origins)?
        }
        key => key,
    };
    let key = key.or_else(|| {
        let names = match (owns_key, &origins["target"]) {
            (true, _) => target.vendor.key_variables(),
            (false, Origin::Environment(_)) => &[KEY_VARIABLE],
            (false, _) => &[],
        };
        let (name, value) = names.iter().find_map(|name| Some((*name, variable(name)?)))?;
        origins.insert("key", Origin::Environment(name.to_owned()));
        Some(SecretString::from(value))
    });
    if key.is_none() && target.vendor.needs_key() && target.address.is_none() {
        let variables = target.vendor.key_variables().join(" or ");
        let problem = format!("expected {variables} in the environment, key_variable or key_file; none is set");
        return Err(wrong("key", problem));
    }

    let budget_usd = match pick("budget_usd", &explicit.budget_usd, &file.budget_usd, &mut origins) {
        None => variable(BUDGET_VARIABLE)
            .map(|text| {
                origins.insert("budget_usd", Origin::Environment(BUDGET_VARIABLE.to_owned()));
                text.parse::<f64>().map_err(|_| wrong(BUDGET_VARIABLE, format!("expected US dollars, came {text:?}")))
            })
            .transpose()?,
        budget => budget,
    };
    if let Some(dollars) = budget_usd.filter(|dollars| dollars.is_nan() || *dollars < 0.0) {
        return Err(wrong("budget_usd", format!("expected US dollars, came {dollars}")));
    }
    Ok(ResolvedConfig {
        target,
        key,
        timeouts: pick("timeouts", &explicit.timeouts, &file.timeouts, &mut origins).unwrap_or_default(),
        retry: pick("retry", &explicit.retry, &file.retry, &mut origins),
        limits: pick("limits", &explicit.limits, &file.limits, &mut origins).unwrap_or_default(),
        cache: pick("cache", &explicit.cache, &file.cache, &mut origins),
        prices: pick("prices", &explicit.prices, &file.prices, &mut origins).unwrap_or_default(),
        budget_usd,
        origins,
    })
}

impl ResolvedConfig {
    /// Whether the key is a token that Anthropic wants as a bearer's.
    pub fn key_is_token(&self) -> bool {
        let token = Origin::Environment("ANTHROPIC_AUTH_TOKEN".to_owned());
        self.target.vendor == Vendor::Anthropic && self.origins.get("key") == Some(&token)
    }
}

fn pick<T: Clone>(
    name: &'static str,
    explicit: &Option<T>,
    file: &Option<T>,
    origins: &mut BTreeMap<&'static str, Origin>,
) -> Option<T> {
    let (value, origin) = match (explicit, file) {
        (Some(value), _) => (Some(value), Origin::Explicit),
        (None, Some(value)) => (Some(value), Origin::File),
        (None, None) => (None, Origin::Default),
    };
    origins.insert(name, origin);
    value.cloned()
}

/// The key that settings of one origin name, if they do.
fn named_key(
    config: &ClientConfig,
    origin: Origin,
    variable: &dyn Fn(&str) -> Option<String>,
    origins: &mut BTreeMap<&'static str, Origin>,
) -> Result<Option<SecretString>> {
    let key = if let Some(key) = &config.key {
        key.clone()
    } else if let Some(name) = &config.key_variable {
        let value = variable(name);
        value.ok_or_else(|| wrong("key_variable", format!("expected a key in {name}, which is not set")))?.into()
    } else if let Some(file) = &config.key_file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong("key_file", format!("cannot read {}: {error}", file.display())))?;
        match text.trim() {
            "" => return Err(wrong("key_file", format!("expected a key, {} is empty", file.display()))),
            key => key.into(),
        }
    } else {
        return Ok(None);
    };
    origins.insert("key", origin);
    Ok(Some(key))
}

fn wrong(setting: &str, problem: String) -> Error {
    Error::Configuration { setting: setting.to_owned(), problem }
}
