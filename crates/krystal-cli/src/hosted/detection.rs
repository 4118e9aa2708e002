//! Which hosted models could be asked from here.

use std::sync::Arc;

use krystal::llm::client::{Vendor, probe_ollama};
use krystal::llm::transport::{HyperConfig, HyperTransport};
use serde_json::{Value, json};

use super::runtime;

/// What was found: one line, the same for programs, and whether any model could be asked.
pub(crate) fn detected() -> (bool, String, Value) {
    let is_set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut found = Vec::new();
    let mut vendors = serde_json::Map::new();
    for vendor in
        Vendor::ALL.into_iter().filter(|vendor| *vendor != Vendor::OpenAiResponses && *vendor != Vendor::Ollama)
    {
        let variable = vendor.key_variables().iter().find(is_set);
        found.extend(variable.map(|variable| format!("{} ({variable})", vendor.word())));
        vendors.insert(vendor.word().to_owned(), json!(variable));
    }
    let models = ollama();
    let text = match &models {
        Some(models) => format!("an Ollama answers, with {} models", models.len()),
        None => "no Ollama answers".to_owned(),
    };
    vendors.insert("ollama".to_owned(), json!(models));
    let works = !found.is_empty() || models.is_some();
    let keys = if found.is_empty() { "no keys are set".to_owned() } else { format!("keys for {}", found.join(", ")) };
    (works, format!("{keys}; {text}"), Value::Object(vendors))
}

/// The models of the Ollama that is there.
fn ollama() -> Option<Vec<String>> {
    let transport = Arc::new(HyperTransport::new(HyperConfig::default()).ok()?);
    let environment = |name: &str| std::env::var(name).ok();
    Some(runtime().ok()?.block_on(probe_ollama(transport, &environment)).ok()?.models)
}
