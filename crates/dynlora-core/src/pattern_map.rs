//! Values by regular expression over module names, in PEFT's sense.

use std::fmt;
use std::marker::PhantomData;

use fancy_regex::Regex;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// `rank_pattern` and `alpha_pattern`: the first pattern that matches a module's name gives its value.
///
/// A pattern matches the whole name, or the whole of what follows some dot in it: `q_proj`, `layers.0.self_attn.q_proj` and
/// `layers\.[01]\..*` all match `model.layers.0.self_attn.q_proj`; `proj` does not (`re.match(rf"(.*\.)?({key})$", name)`,
/// PEFT 0.21 `get_pattern_key`). The order of the entries is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternMap<T> {
    entries: Vec<(String, T)>,
}

impl<T> PatternMap<T> {
    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Pattern and value of every entry, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|(pattern, value)| (pattern.as_str(), value))
    }

    /// The value of the first pattern that matches `name`; `field` names the map in errors.
    pub(crate) fn get(&self, name: &str, field: &'static str) -> Result<Option<&T>, Error> {
        for (pattern, value) in &self.entries {
            if matches(&format!(r"\A(?:.*\.)?(?:{pattern})\z"), name).map_err(|reason| Error::Pattern {
                field,
                pattern: pattern.clone(),
                reason,
            })? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// Whether `pattern`, anchored by the caller, matches `name`.
///
/// # Errors
/// Why the pattern does not compile or its matching was given up.
pub(crate) fn matches(pattern: &str, name: &str) -> Result<bool, String> {
    let one_line = |error: String| error.split_whitespace().collect::<Vec<_>>().join(" ");
    let regex = Regex::new(pattern).map_err(|error| one_line(error.to_string()))?;
    regex.is_match(name).map_err(|error| one_line(error.to_string()))
}

impl<T> Default for PatternMap<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> FromIterator<(String, T)> for PatternMap<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

impl<T: Serialize> Serialize for PatternMap<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (pattern, value) in &self.entries {
            map.serialize_entry(pattern, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PatternMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = PatternMap<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map from patterns to numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(PatternMap { entries })
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], name: &str, expected: Option<usize>) {
        let map: PatternMap<usize> = patterns.iter().enumerate().map(|(i, p)| ((*p).to_owned(), i)).collect();
        assert_eq!(map.get(name, "rank_pattern").unwrap().copied(), expected, "{patterns:?} {name}");
    }

    #[test]
    fn patterns_match_as_pefts_do() {
        // Expected values from Python's re.match(rf"(.*\.)?({key})$", name).
        let name = "model.layers.0.self_attn.q_proj";
        check(&["q_proj"], name, Some(0));
        check(&["proj"], name, None);
        check(&["k_proj", "q_proj"], name, Some(1));
        check(&["model.layers.0.self_attn.q_proj"], name, Some(0));
        check(&["^model.layers.0.self_attn.q_proj"], name, Some(0));
        check(&["^self_attn.q_proj"], name, None);
        check(&[r"layers\.[12]\..*", r"layers\.\d\..*q_proj"], name, Some(1));
        check(&["q_proj|k_proj"], name, Some(0));
        check(&["(?!v)._proj"], name, Some(0));
        check(&["model"], name, None);
        check(&[], name, None);
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_named() {
        let map: PatternMap<usize> = [("q_(proj".to_owned(), 1)].into_iter().collect();
        let error = map.get("q_proj", "rank_pattern").unwrap_err().to_string();
        assert!(error.contains("rank_pattern") && error.contains("q_(proj") && !error.contains('\n'), "{error}");
    }
}
