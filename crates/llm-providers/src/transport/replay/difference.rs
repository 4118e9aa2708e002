//! Where two JSON values differ, without what stands there.

use serde_json::Value;

/// The places where `came` differs from `recorded`, as paths of keys: `messages[1].content differs`.
pub(super) fn differences(recorded: &Value, came: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", recorded, came, &mut found);
    found
}

fn compare(path: &str, recorded: &Value, came: &Value, found: &mut Vec<String>) {
    match (recorded, came) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                match new.get(key) {
                    Some(other) => compare(&below(path, key), value, other, found),
                    None => found.push(format!("{} is missing", below(path, key))),
                }
            }
            let added = new.keys().filter(|key| !old.contains_key(*key));
            found.extend(added.map(|key| format!("{} is new", below(path, key))));
        }
        (Value::Array(old), Value::Array(new)) => {
            for (i, (value, other)) in old.iter().zip(new).enumerate() {
                compare(&format!("{path}[{i}]"), value, other, found);
            }
            if old.len() != new.len() {
                found.push(format!("{} has {} elements, recorded are {}", named(path), new.len(), old.len()));
            }
        }
        (old, new) if old == new => {}
        _ => found.push(format!("{} differs", named(path))),
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn named(path: &str) -> &str {
    if path.is_empty() { "the body" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_are_named_and_contents_are_not() {
        let old = json!({"model": "planted", "messages": [{"content": "planted"}, {"content": "x"}], "seed": 1});
        let new = json!({"messages": [{"content": "other planted"}], "model": "planted", "top": {"k": "planted"}});
        assert_eq!(
            differences(&old, &new),
            ["messages[0].content differs", "messages has 1 elements, recorded are 2", "seed is missing", "top is new"]
        );
        assert_eq!(differences(&json!([1]), &Value::Null), ["the body differs"]);
        assert!(differences(&old, &old).is_empty());
    }
}
