//! Finding a server without being told.

use super::config::{Environment, TARGET_VARIABLE};
use super::target::{Target, Vendor};
use crate::error::{Error, Result};

/// What was found in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detection {
    /// Everything found, in the order of preference.
    pub candidates: Vec<DetectedTarget>,
    /// What was chosen: the first of them.
    pub target: Target,
    /// The variable that it was chosen for.
    pub variable: String,
    /// Why, in one line.
    pub why: String,
}

/// A server that could be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectedTarget {
    /// Which.
    pub target: Target,
    /// The variable that speaks for it.
    pub variable: String,
}

/// Looks for a server in the environment: what `LLM_TARGET` names; else the vendor whose key is set, in the order OpenAI, Anthropic,
/// Gemini; else the Ollama of `OLLAMA_HOST`. Nothing is asked over the network, and no vendor is guessed from a model's name.
///
/// # Errors
///
/// [`Error::Configuration`] that lists what was looked for, where nothing is set; or where `LLM_TARGET` is no target.
pub fn detect(environment: Environment<'_>) -> Result<Detection> {
    let is_set = |name: &str| environment(name).is_some_and(|value| !value.trim().is_empty());
    let mut candidates = Vec::new();
    let mut looked_for = vec![TARGET_VARIABLE];
    if let Some(text) = environment(TARGET_VARIABLE).filter(|text| !text.trim().is_empty()) {
        candidates.push(DetectedTarget { target: Target::parse(&text)?, variable: TARGET_VARIABLE.to_owned() });
    }
    for vendor in [Vendor::OpenAi, Vendor::Anthropic, Vendor::Gemini, Vendor::Ollama] {
        // A key of Ollama's cloud alone does not say that the local server is meant.
        let address = [vendor.address_variable()];
        let variables = if vendor.needs_key() { vendor.key_variables() } else { &address };
        looked_for.extend(variables);
        if let Some(variable) = variables.iter().find(|name| is_set(name)) {
            candidates.push(DetectedTarget { target: Target::new(vendor), variable: (*variable).to_owned() });
        }
    }
    let Some(DetectedTarget { target, variable }) = candidates.first().cloned() else {
        let problem = format!("expected one of {}; none is set, and no server was named", looked_for.join(", "));
        return Err(Error::Configuration { setting: "target".to_owned(), problem });
    };
    let others: Vec<_> = candidates[1..].iter().map(|other| format!("{} ({})", other.target, other.variable)).collect();
    let why = match others.as_slice() {
        [] => format!("{target}, because {variable} is set"),
        others => format!("{target}, because {variable} is set and comes before {}", others.join(", ")),
    };
    Ok(Detection { candidates, target, variable, why })
}
