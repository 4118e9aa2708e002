//! Finds the shared fixtures.

use std::path::PathBuf;

use serde_json::Value;

/// The fixture file's content, or `None` (with a word on why nothing is tested) where it is not here.
pub(crate) fn load(name: &str) -> Option<Value> {
    let root = std::env::var_os("KRYSTAL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let path = root.join("fixtures/grpo").join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).expect("a fixture is JSON")),
        Err(_) => {
            println!("skipped: {name} is not here");
            None
        }
    }
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

pub(crate) fn rows(value: &Value) -> Option<Vec<Vec<f64>>> {
    value.as_array().map(|rows| rows.iter().map(numbers).collect())
}
