//! Messages: who said what, in blocks that keep what a vendor wants to see again.
//!
//! `Debug` of everything here gives sizes, never text: what people write to models does not belong in logs. Serialise a message to look
//! at it.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base64_bytes;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whoever deploys the model: instructions. Providers move it to where their protocol has it.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// Results of tools, one or more [`Content::ToolResult`] blocks.
    Tool,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<Content>,
    /// Asks the vendor to cache the prompt up to the end of this message, where that is said explicitly (Anthropic's
    /// `cache_control`); elsewhere it changes nothing, for caching is automatic. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cache_breakpoint: bool,
}

impl Message {
    /// A message of blocks.
    pub fn new(role: Role, content: Vec<Content>) -> Self {
        Self { role, content, cache_breakpoint: false }
    }

    /// Instructions.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, vec![Content::text(text)])
    }

    /// A text of the user.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, vec![Content::text(text)])
    }

    /// A text of the model.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, vec![Content::text(text)])
    }

    /// What tools answered.
    pub fn tool_results(results: impl IntoIterator<Item = ToolResult>) -> Self {
        Self::new(Role::Tool, results.into_iter().map(Content::ToolResult).collect())
    }

    /// The text blocks, joined without a separator; reasoning and refusals are not text.
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter_map(|content| match content {
            Content::Text(text) => Some(text.text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The reasoning that the vendor shows, joined.
    pub fn reasoning(&self) -> String {
        let texts = self.content.iter().filter_map(|content| match content {
            Content::Reasoning(reasoning) => Some(reasoning.text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The calls of tools, in the order of their index.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|content| match content {
            Content::ToolCall(call) => Some(call),
            _ => None,
        })
    }
}

/// A block of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Content {
    /// Text.
    Text(Text),
    /// What the model thought before it answered.
    Reasoning(Reasoning),
    /// The model declines; in the words of the vendor.
    Refusal(Text),
    /// An image.
    Image(Media),
    /// Another file: PDF, text, audio.
    File(File),
    /// The model wants a tool called.
    ToolCall(ToolCall),
    /// What the tool answered.
    ToolResult(ToolResult),
    /// A block of a vendor's own (a search on its side, code it ran), kept whole so that it can be sent back.
    Other(Opaque),
}

impl Content {
    /// A text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Text::new(text))
    }
}

/// Data that one vendor gave and wants back unchanged: signatures, encrypted reasoning, blocks of its own. Providers of other vendors
/// leave it out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Opaque {
    /// Whose it is: [`LlmProvider::name`](crate::LlmProvider::name).
    pub provider: String,
    /// What it gave.
    pub data: Value,
}

impl Opaque {
    /// Data of the vendor `provider`.
    pub fn new(provider: impl Into<String>, data: Value) -> Self {
        Self { provider: provider.into(), data }
    }

    /// The data, if it is `provider`'s.
    pub fn of(&self, provider: &str) -> Option<&Value> {
        (self.provider == provider).then_some(&self.data)
    }
}

/// Text, with what the vendor wants to see again with it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Text {
    /// The text.
    pub text: String,
    /// For the vendor that wrote it: citations, signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
}

impl Text {
    /// A text alone.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), opaque: None }
    }
}

/// What the model thought. The text may be empty where the vendor shows nothing and signs all the same.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reasoning {
    /// The reasoning or a summary of it.
    pub text: String,
    /// For the vendor that wrote it: signatures, encrypted content. Without it Anthropic and Gemini refuse the next turn of a
    /// conversation with tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
}

impl Reasoning {
    /// A reasoning text alone.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), opaque: None }
    }
}

/// Where the bytes of an image or a file are.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MediaSource {
    /// Here; in JSON as base64.
    Bytes(#[serde(with = "base64_bytes")] Bytes),
    /// At an address that the vendor can read.
    Url(String),
    /// Uploaded to the vendor before, under this id.
    Id(String),
}

/// An image or a file's content.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Media {
    /// The media type, `image/png`. Empty: not said (vendors need it with bytes).
    pub media_type: String,
    /// The bytes, or where they are.
    pub source: MediaSource,
    /// How closely to look, in a vendor's words (OpenAI: `low`, `high`, `auto`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Media {
    /// Bytes of a media type.
    pub fn bytes(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { media_type: media_type.into(), source: MediaSource::Bytes(bytes.into()), detail: None }
    }

    /// An address; `media_type` may be empty where the vendor finds out by itself.
    pub fn url(media_type: impl Into<String>, url: impl Into<String>) -> Self {
        Self { media_type: media_type.into(), source: MediaSource::Url(url.into()), detail: None }
    }

    /// What was uploaded before.
    pub fn id(media_type: impl Into<String>, id: impl Into<String>) -> Self {
        Self { media_type: media_type.into(), source: MediaSource::Id(id.into()), detail: None }
    }
}

/// A file with its name.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct File {
    /// The file's name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its content.
    pub media: Media,
}

impl File {
    /// A file.
    pub fn new(name: Option<String>, media: Media) -> Self {
        Self { name, media }
    }
}

/// The model wants a tool called.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// Which call: the result names it. Where a vendor gives none, providers make one from the call's index.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// The arguments as the model wrote them: JSON as a rule, of an object. See [`ToolCall::arguments_json`].
    pub arguments: String,
    /// For the vendor that wrote it: signatures, ids of its items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
}

impl ToolCall {
    /// A call.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), arguments: arguments.into(), opaque: None }
    }

    /// The arguments, parsed; nothing at all is the empty object.
    ///
    /// # Errors
    ///
    /// Where the model's text is not JSON (it was cut off, or the model is a bad one).
    pub fn arguments_json(&self) -> Result<Value, serde_json::Error> {
        if self.arguments.trim().is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_str(&self.arguments)
    }
}

/// What a tool answered.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolResult {
    /// Which call is answered.
    pub call_id: String,
    /// Which tool answers: Gemini and Ollama want its name.
    pub name: String,
    /// The answer: text as a rule; some vendors take images.
    pub content: Vec<Content>,
    /// The tool failed, and the content says how.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

impl ToolResult {
    /// The answer to a call, as text.
    pub fn text(call: &ToolCall, text: impl Into<String>) -> Self {
        Self { call_id: call.id.clone(), name: call.name.clone(), content: vec![Content::text(text)], is_error: false }
    }

    /// An answer in blocks.
    pub fn new(call_id: impl Into<String>, name: impl Into<String>, content: Vec<Content>) -> Self {
        Self { call_id: call_id.into(), name: name.into(), content, is_error: false }
    }

    /// The same, as a failure of the tool.
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.is_error = true;
        self
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opaque({})", self.provider)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.text.len())
    }
}

impl fmt::Debug for Reasoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.text.len())
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.media_type)?;
        match &self.source {
            MediaSource::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            MediaSource::Url(_) => write!(f, "at an address"),
            MediaSource::Id(_) => write!(f, "uploaded before"),
        }
    }
}

impl fmt::Debug for MediaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Url(_) => write!(f, "Url"),
            Self::Id(_) => write!(f, "Id"),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.media, f)
    }
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} bytes", self.name, self.arguments.len())
    }
}

impl fmt::Debug for ToolResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}, is_error: {}", self.name, self.content, self.is_error)
    }
}
