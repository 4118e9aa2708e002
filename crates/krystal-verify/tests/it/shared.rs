//! Data we did not write, kept beside the checkout and never committed.

use std::path::PathBuf;

use serde_json::{Map, Value};

/// The objects of a JSONL file of the shared data, or a printed line and `None`.
pub(crate) fn jsonl(name: &str) -> Option<Vec<Map<String, Value>>> {
    let root = std::env::var_os("KRYSTAL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(root.join("data").join(name)) else {
        println!("skipped: {name} is not here");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a JSON object per line")).collect())
}

/// A text column.
pub(crate) fn text<'a>(record: &'a Map<String, Value>, column: &str) -> &'a str {
    record[column].as_str().expect("a text column")
}
