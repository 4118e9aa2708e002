//! An exchange as a line of a recording.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// What was asked and what came.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    pub(super) method: String,
    /// Without the query, which may have a key.
    pub(super) path: String,
    /// The body: JSON, or a string where it is none. Null: empty.
    #[serde(default)]
    pub(super) asked: Value,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// The answer's body as it came.
    pub(super) pieces: Vec<Piece>,
    /// The connection broke after the last piece.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_broken: bool,
}

/// A piece of a body: a string in JSON if it is UTF-8 by itself, else `{"base64": ...}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece(pub(super) Bytes);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written<'a> {
    Text(Cow<'a, str>),
    Encoded { base64: Cow<'a, str> },
}

impl Serialize for Piece {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Written::Text(text.into()),
            Err(_) => Written::Encoded { base64: STANDARD.encode(&self.0).into() },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self(text.into_owned().into())),
            Written::Encoded { base64 } => {
                STANDARD.decode(base64.as_bytes()).map(|bytes| Self(bytes.into())).map_err(de::Error::custom)
            }
        }
    }
}

/// A request's body as it is compared.
pub(super) fn asked(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// The headers of an answer that say something to this crate; none of them is a secret.
pub(super) fn telling(headers: &HeaderMap) -> Vec<(String, String)> {
    let tells = |name: &str| {
        matches!(
            name,
            "content-type" | "retry-after" | "retry-after-ms" | "x-should-retry" | "request-id" | "x-request-id"
        ) || name.contains("ratelimit")
    };
    headers
        .iter()
        .filter(|(name, _)| tells(name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_readably_and_read_back() {
        let pieces = ["text \u{e9}".as_bytes(), b"\xE2\x82", b""].map(|bytes| Piece(Bytes::from_static(bytes)));
        let written = serde_json::to_string(&pieces).unwrap();
        assert_eq!(written, "[\"text \u{e9}\",{\"base64\":\"4oI=\"},\"\"]");
        assert_eq!(serde_json::from_str::<Vec<Piece>>(&written).unwrap(), pieces);
    }
}
