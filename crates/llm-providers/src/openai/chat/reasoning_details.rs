//! OpenRouter's `reasoning_details`: what upstream vendors want to see again, in fragments.

use serde_json::{Map, Value};

/// The details of an answer.
#[derive(Default)]
pub(super) struct ReasoningDetails(Vec<Value>);

impl ReasoningDetails {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.0)
    }

    /// Takes a detail as it is.
    pub(super) fn push(&mut self, detail: Map<String, Value>) {
        self.0.push(detail.into());
    }

    /// Joins a fragment with what came of its detail: texts grow, other fields replace what was there.
    pub(super) fn join(&mut self, detail: Map<String, Value>) {
        let is_same = |old: &&mut Value| ["index", "type"].iter().all(|key| old.get(*key) == detail.get(*key));
        let is_fragment = ["text", "summary", "signature"].iter().any(|key| detail.contains_key(*key));
        let last = self.0.iter_mut().rev().find(is_same).and_then(Value::as_object_mut);
        let Some(old) = last.filter(|_| is_fragment) else { return self.push(detail) };
        for (key, value) in detail {
            match (old.get_mut(&key), value) {
                (Some(Value::String(old)), Value::String(new)) if key == "text" || key == "summary" => {
                    old.push_str(&new);
                }
                (Some(_), Value::Null) => {}
                (_, value) => {
                    old.insert(key, value);
                }
            }
        }
    }
}
