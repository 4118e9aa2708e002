//! What comes: events of a stream, and the parts of an answer.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::Str;
use crate::openai::log_probs::Entry;
use crate::openai::sequence;

/// An event. What is rare stays raw until it is wanted.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(default, borrow, rename = "type")]
    pub(super) kind: Str<'a>,
    #[serde(default)]
    pub(super) output_index: Option<u64>,
    #[serde(default)]
    pub(super) content_index: Option<u64>,
    #[serde(default)]
    pub(super) summary_index: Option<u64>,
    #[serde(default, borrow)]
    pub(super) delta: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "sequence::list")]
    pub(super) logprobs: Vec<Entry<'a>>,
    #[serde(default, borrow)]
    pub(super) item: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) part: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) response: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// An answer, whole or as far as it is.
#[derive(Default, Deserialize)]
pub(super) struct Whole {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) output: Option<Vec<Value>>,
    #[serde(default)]
    pub(super) usage: Option<Value>,
    #[serde(default)]
    pub(super) error: Option<Value>,
    #[serde(default)]
    pub(super) incomplete_details: Option<Value>,
    #[serde(default)]
    pub(super) service_tier: Option<String>,
}
