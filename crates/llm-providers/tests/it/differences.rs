//! Where two bodies differ.

use std::collections::BTreeMap;

use serde_json::Value;

/// A difference that is known: its path (`-` only recorded, `+` only ours, `~` not the same), how often it occurs, and why.
pub(crate) type Known = (&'static str, usize, &'static str);

/// Counts differences over many bodies.
#[derive(Default)]
pub(crate) struct Differences {
    counts: BTreeMap<String, Vec<String>>,
}

impl Differences {
    /// Compares two bodies; places in arrays are not told apart.
    pub(crate) fn add(&mut self, name: &str, recorded: &Value, ours: &Value) {
        self.walk(name, "", recorded, ours);
    }

    fn note(&mut self, sign: char, path: &str, name: &str) {
        self.counts.entry(format!("{sign} {path}")).or_default().push(name.to_owned());
    }

    fn walk(&mut self, name: &str, path: &str, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::Object(recorded), Value::Object(ours)) => {
                for (key, value) in recorded {
                    let path = format!("{path}.{key}");
                    match ours.get(key) {
                        Some(other) => self.walk(name, &path, value, other),
                        None => self.note('-', &path, name),
                    }
                }
                for key in ours.keys().filter(|key| !recorded.contains_key(*key)) {
                    self.note('+', &format!("{path}.{key}"), name);
                }
            }
            (Value::Array(recorded), Value::Array(ours)) if recorded.len() == ours.len() => {
                for (value, other) in recorded.iter().zip(ours) {
                    self.walk(name, &format!("{path}[]"), value, other);
                }
            }
            _ if recorded == ours => {}
            _ => self.note('~', path, name),
        }
    }

    /// Fails on a difference that is not known, on one that does not occur, and on another count.
    #[track_caller]
    pub(crate) fn check(&self, known: &[Known]) {
        let mut wrong = Vec::new();
        for (difference, names) in &self.counts {
            if !known.iter().any(|(path, count, _)| path == difference && *count == names.len()) {
                wrong.push(format!("{} times {difference}, first in {}", names.len(), names[0]));
            }
        }
        for (path, _, why) in known {
            if !self.counts.contains_key(*path) {
                wrong.push(format!("never {path} ({why})"));
            }
        }
        assert!(wrong.is_empty(), "differences that are not listed so:\n{}", wrong.join("\n"));
    }
}

#[test]
fn differences_are_found() {
    let mut differences = Differences::default();
    let recorded = serde_json::json!({"a": [{"b": 1, "c": null}, {"b": 2}], "d": [1], "e": 1.0});
    let ours = serde_json::json!({"a": [{"b": 1}, {"b": 3, "f": 0}], "d": [], "e": 1.0});
    differences.add("x", &recorded, &ours);
    differences.check(&[("- .a[].c", 1, ""), ("~ .a[].b", 1, ""), ("+ .a[].f", 1, ""), ("~ .d", 1, "")]);
}
