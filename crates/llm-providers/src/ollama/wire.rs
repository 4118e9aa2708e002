//! What goes over the wire, as `ollama/api/types.go` has it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::{Count, Str};

#[derive(Serialize)]
pub(super) struct Chat<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<ChatMessage<'a>>,
    /// Always there: left out it means true.
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<ChatTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub(super) options: Options<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) think: Option<Think>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep_alive: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_logprobs: Option<u8>,
}

#[derive(Serialize, Default)]
pub(super) struct ChatMessage<'a> {
    pub(super) role: &'static str,
    pub(super) content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) thinking: String,
    /// Base64 without a prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ChatToolCall<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) tool_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) tool_call_id: &'a str,
}

#[derive(Serialize)]
pub(super) struct ChatToolCall<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) id: &'a str,
    pub(super) function: ChatFunctionCall<'a>,
}

#[derive(Serialize)]
pub(super) struct ChatFunctionCall<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a RawValue,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ChatTool<'a> {
    Function { r#type: &'static str, function: ChatFunction<'a> },
    Raw(&'a Value),
}

#[derive(Serialize)]
pub(super) struct ChatFunction<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<&'a str>,
    pub(super) parameters: &'a Value,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Format<'a> {
    Json(&'static str),
    Schema(&'a Value),
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Think {
    Switch(bool),
    Level(&'static str),
}

#[derive(Serialize, Default, PartialEq)]
pub(super) struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) num_ctx: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frequency_penalty: Option<f64>,
}

impl Options<'_> {
    fn is_empty(&self) -> bool {
        *self == Options::default()
    }
}

#[derive(Serialize)]
pub(super) struct Embed<'a> {
    pub(super) model: &'a str,
    pub(super) input: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep_alive: Option<&'a str>,
}

/// A line of a stream, or a whole answer.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow, default)]
    pub(super) model: Str<'a>,
    #[serde(borrow, default)]
    pub(super) created_at: Str<'a>,
    #[serde(borrow)]
    pub(super) message: Option<LineMessage<'a>>,
    pub(super) done: Option<bool>,
    #[serde(borrow, default)]
    pub(super) done_reason: Str<'a>,
    #[serde(borrow)]
    pub(super) logprobs: Option<Vec<LogProb<'a>>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) total_duration: Count,
    #[serde(default)]
    pub(super) load_duration: Count,
    #[serde(default)]
    pub(super) prompt_eval_count: Count,
    #[serde(default)]
    pub(super) prompt_eval_duration: Count,
    #[serde(default)]
    pub(super) eval_count: Count,
    #[serde(default)]
    pub(super) eval_duration: Count,
}

#[derive(Deserialize)]
pub(super) struct LineMessage<'a> {
    #[serde(borrow, default)]
    pub(super) content: Str<'a>,
    #[serde(borrow, default)]
    pub(super) thinking: Str<'a>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<LineToolCall<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct LineToolCall<'a> {
    #[serde(borrow, default)]
    pub(super) id: Str<'a>,
    #[serde(borrow)]
    pub(super) function: LineFunctionCall<'a>,
}

#[derive(Deserialize)]
pub(super) struct LineFunctionCall<'a> {
    #[serde(borrow, default)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct LogProb<'a> {
    #[serde(borrow, default)]
    pub(super) token: Str<'a>,
    pub(super) logprob: f64,
    pub(super) bytes: Option<Vec<u8>>,
    #[serde(borrow)]
    pub(super) top_logprobs: Option<Vec<LogProb<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Tags<'a> {
    #[serde(borrow)]
    pub(super) models: Option<Vec<Tag<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Tag<'a> {
    #[serde(borrow, default)]
    pub(super) name: Str<'a>,
    #[serde(borrow, default)]
    pub(super) model: Str<'a>,
}

#[derive(Deserialize)]
pub(super) struct Embeddings<'a> {
    #[serde(borrow, default)]
    pub(super) model: Str<'a>,
    pub(super) embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    pub(super) prompt_eval_count: Count,
    #[serde(default)]
    pub(super) total_duration: Count,
    #[serde(default)]
    pub(super) load_duration: Count,
}

/// `{"error": "words"}`, from some servers that imitate Ollama `{"error": {"message": "words"}}`.
#[derive(Deserialize)]
pub(super) struct Failure<'a> {
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}
