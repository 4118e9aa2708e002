//! What comes: an answer, or a chunk of one. Both have the same fields, in `message` or in `delta`.
//!
//! Everything may be missing, null or unknown. Texts are borrowed; what is rare stays raw until it is wanted, and inner structures are
//! boxed: moving large ones was a third of what reading a small chunk cost.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::Str;
use crate::openai::log_probs::Entry;
use crate::openai::sequence;

#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(default, borrow)]
    pub(super) object: Str<'a>,
    #[serde(default, borrow)]
    pub(super) id: Str<'a>,
    #[serde(default, borrow)]
    pub(super) model: Str<'a>,
    #[serde(default, borrow)]
    pub(super) choices: First<'a>,
    #[serde(default, borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) detail: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) system_fingerprint: Str<'a>,
    #[serde(default, borrow)]
    pub(super) service_tier: Str<'a>,
    /// OpenRouter: who answered.
    #[serde(default, borrow)]
    pub(super) provider: Str<'a>,
    /// llama.cpp.
    #[serde(default, borrow)]
    pub(super) timings: Option<&'a RawValue>,
    /// Groq puts the usage here.
    #[serde(default)]
    pub(super) x_groq: Option<Groq<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Groq<'a> {
    #[serde(default, borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// The choice of index 0. Others (with `n` above 1) are other answers.
#[derive(Default)]
pub(super) struct First<'a> {
    pub(super) choice: Option<Box<Choice<'a>>>,
    /// There was a list.
    pub(super) listed: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = First<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while let Some(choice) = list.next_element::<Box<Choice<'de>>>()? {
                    if choice.index.unwrap_or(0) == 0 {
                        sequence::skip(list)?;
                        return Ok(First { choice: Some(choice), listed: true });
                    }
                }
                Ok(First { choice: None, listed: true })
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(First::default())
            }
        }

        deserializer.deserialize_any(List)
    }
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default)]
    pub(super) index: Option<i64>,
    #[serde(default, borrow)]
    pub(super) delta: Option<Box<Delta<'a>>>,
    #[serde(default, borrow)]
    pub(super) message: Option<&'a RawValue>,
    /// Null until the answer ends; empty for some.
    #[serde(default, borrow)]
    pub(super) finish_reason: Option<Str<'a>>,
    #[serde(default, borrow)]
    pub(super) native_finish_reason: Str<'a>,
    #[serde(default, borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    /// vLLM, where asked for.
    #[serde(default, borrow)]
    pub(super) token_ids: Option<&'a RawValue>,
    /// Moonshot puts the usage here.
    #[serde(default, borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(default, borrow)]
    pub(super) content: Content<'a>,
    #[serde(default, borrow)]
    pub(super) refusal: Str<'a>,
    #[serde(default, borrow)]
    pub(super) reasoning_content: Str<'a>,
    #[serde(default, borrow)]
    pub(super) reasoning: Str<'a>,
    #[serde(default, borrow)]
    pub(super) reasoning_details: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) tool_calls: Option<&'a RawValue>,
    /// What calls of tools were before they could be several.
    #[serde(default, borrow)]
    pub(super) function_call: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) annotations: Option<&'a RawValue>,
    /// OpenRouter: images that the model made.
    #[serde(default, borrow)]
    pub(super) images: Option<&'a RawValue>,
    /// OpenAI: what the model said aloud.
    #[serde(default, borrow)]
    pub(super) audio: Option<&'a RawValue>,
}

/// A text, or a list of parts.
pub(super) enum Content<'a> {
    Text(Str<'a>),
    Parts(Vec<Part<'a>>),
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self::Text(Str::default())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts;

        impl<'de> Visitor<'de> for TextOrParts {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Text(Str(text.into())))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(Str(text.to_owned().into())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Content::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }

        deserializer.deserialize_any(TextOrParts)
    }
}

/// A part of a content: text, a refusal, or Mistral's thinking, which is parts again.
#[derive(Deserialize)]
pub(super) struct Part<'a> {
    #[serde(default, borrow)]
    pub(super) text: Str<'a>,
    #[serde(default, borrow)]
    pub(super) refusal: Str<'a>,
    #[serde(default, borrow)]
    pub(super) thinking: Option<Box<Content<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct ToolCall<'a> {
    #[serde(default)]
    pub(super) index: Option<i64>,
    #[serde(default, borrow)]
    pub(super) id: Str<'a>,
    #[serde(default, borrow)]
    pub(super) function: Option<Function<'a>>,
    /// Gemini's signature, on its compatible interface.
    #[serde(default, borrow)]
    pub(super) extra_content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(default, borrow)]
    pub(super) name: Str<'a>,
    /// A text of JSON, or JSON itself.
    #[serde(default, borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct LogProbs<'a> {
    #[serde(default, borrow, deserialize_with = "sequence::list")]
    pub(super) content: Vec<Entry<'a>>,
    #[serde(default, borrow, deserialize_with = "sequence::list")]
    pub(super) refusal: Vec<Entry<'a>>,
}
