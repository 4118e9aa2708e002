//! Which hosted models could be asked from here.

use std::time::Duration;

use krystal::llm::client::Vendor;
use serde_json::{Value, json};

use super::{Hosted, HostedOptions, runtime};

/// How long an Ollama may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

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
    // Any model's name will do to ask for the server.
    let hosted = Hosted::connect("ollama:any", &HostedOptions::default()).ok()?;
    let asked = async { tokio::time::timeout(PATIENCE, hosted.provider().available()).await };
    let available = runtime().ok()?.block_on(asked).ok()?.ok()?;
    Some(available.models)
}
