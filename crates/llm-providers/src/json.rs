//! JSON as it goes over the wire: strings that are not copied, fields that servers leave out or get wrong.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::request::Request;

/// Reads JSON. The error gives the place, not what stands there.
pub(crate) fn parse<'a, T: Deserialize<'a>>(provider: &str, expected: &str, bytes: &'a [u8]) -> Result<T> {
    // Once for all is faster than for each string.
    let text = std::str::from_utf8(bytes).map_err(|error| Error::Decode {
        provider: provider.to_owned(),
        expected: expected.to_owned(),
        found: format!("bytes that are not UTF-8 at {}", error.valid_up_to()),
    })?;
    serde_json::from_str(text).map_err(|error| Error::of_json(provider, expected, &error))
}

/// The body of a request.
pub(crate) fn body(provider: &str, body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|_| unwritable(provider))
}

/// The body of a request, with what the caller adds to it.
pub(crate) fn body_with_extra(provider: &str, said: &impl Serialize, request: &Request) -> Result<Vec<u8>> {
    if request.extra.is_empty() {
        return body(provider, said);
    }
    let mut said = serde_json::to_value(said).map_err(|_| unwritable(provider))?;
    if let Value::Object(said) = &mut said {
        request.merge_extra(said);
    }
    body(provider, &said)
}

fn unwritable(provider: &str) -> Error {
    Error::InvalidRequest {
        provider: provider.to_owned(),
        problem: "expected what JSON can say, a value has no form there".to_owned(),
    }
}

/// The arguments of a tool call as the JSON object that a vendor wants; nothing at all is the empty object. They are sent as the model
/// wrote them.
pub(crate) fn object<'a>(provider: &str, what: &str, text: &'a str) -> Result<&'a RawValue> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    match serde_json::from_str::<&RawValue>(text.trim()) {
        Ok(raw) if raw.get().starts_with('{') => Ok(raw),
        Ok(_) => Err(Error::InvalidRequest {
            provider: provider.to_owned(),
            problem: format!("{what}: expected a JSON object, other JSON came"),
        }),
        Err(_) => Err(Error::InvalidRequest {
            provider: provider.to_owned(),
            problem: format!("{what}: expected a JSON object, no JSON came"),
        }),
    }
}

/// The arguments of a tool call that came as JSON: an object as a rule, in sloppy servers a string that holds one.
pub(crate) fn arguments(raw: Option<&RawValue>) -> String {
    match raw.map(RawValue::get) {
        None | Some("null") => "{}".to_owned(),
        Some(text) if text.starts_with('"') => serde_json::from_str(text).unwrap_or_default(),
        Some(text) => text.to_owned(),
    }
}

/// A string, borrowed from the input where it has no escapes. Null is the empty string, a number or a truth value its text; other
/// things are passed over.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Str<'a>(pub(crate) Cow<'a, str>);

impl Str<'_> {
    pub(crate) fn into_string(self) -> String {
        self.0.into_owned()
    }

    /// The string, if there is anything in it.
    pub(crate) fn given(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.into_string())
    }
}

impl std::ops::Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;

        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Str(Cow::Owned(text)))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Str::default())
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                self.visit_string(value.to_string())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                self.visit_string(value.to_string())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                self.visit_string(value.to_string())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                self.visit_string(value.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_seq(seq).map(|_| Str::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_map(map).map(|_| Str::default())
            }
        }

        deserializer.deserialize_any(StrVisitor)
    }
}

/// A count of tokens. What is not a number of that kind counts as not said.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;

        impl<'de> Visitor<'de> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Count(Some(value)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Count(u64::try_from(value).ok()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                // Above 2^53 a float is no count any more.
                let is_count = value.fract() == 0.0 && (0.0..9e15).contains(&value);
                Ok(Count(is_count.then_some(value as u64)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Count(text.parse().ok()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Count(None))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Count(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_seq(seq).map(|_| Count(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_map(map).map(|_| Count(None))
            }
        }

        deserializer.deserialize_any(CountVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_are_borrowed_and_other_things_are_borne_with() {
        let texts: Vec<Str<'_>> =
            serde_json::from_str(r#"["plain", "a\nb", null, 400, true, {"x": [1]}, [2]]"#).unwrap();
        assert!(matches!(texts[0].0, Cow::Borrowed("plain")));
        let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        assert_eq!(texts, ["plain", "a\nb", "", "400", "true", "", ""]);
    }

    #[test]
    fn counts_are_counts_or_nothing() {
        let counts: Vec<Count> =
            serde_json::from_str(r#"[3, 3.0, -1, 0.5, null, "7", "x", {}, [], 1e300, false]"#).unwrap();
        let counts: Vec<Option<u64>> = counts.iter().map(|count| count.0).collect();
        let nothing = None;
        assert_eq!(counts[..6], [Some(3), Some(3), nothing, nothing, nothing, Some(7)]);
        assert!(counts[6..].iter().all(Option::is_none));
    }

    #[test]
    fn a_wrong_shape_is_told_without_its_content() {
        for text in ["{\"planted\": \"planted\"}", "planted", "[1, \"planted"] {
            let error = parse::<Vec<u32>>("x", "numbers", text.as_bytes()).map(|_| ()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("planted"), "{error}");
        }
    }

    #[test]
    fn extra_keys_are_merged_last() {
        let request = Request::default().with_extra("a", json!({"c": 3})).with_extra("d", json!([1]));
        let bytes = body_with_extra("x", &json!({"a": {"b": 1, "c": 2}, "d": 0}), &request).unwrap();
        let merged: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(merged, json!({"a": {"b": 1, "c": 3}, "d": [1]}));
    }

    #[test]
    fn arguments_are_objects_or_refused() {
        assert_eq!(object("x", "call", " {\"a\": 1.0} ").unwrap().get(), "{\"a\": 1.0}");
        assert_eq!(object("x", "call", "").unwrap().get(), "{}");
        for text in ["[1]", "{\"a\":", "nothing"] {
            assert!(matches!(object("x", "call", text), Err(Error::InvalidRequest { .. })), "{text}");
        }
    }
}
