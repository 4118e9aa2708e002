#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "anthropic", feature = "gemini", feature = "ollama", feature = "openai")),
    allow(dead_code, reason = "protocols share what one of them alone does not need whole")
)]

mod base64_bytes;
mod blocks;
mod capabilities;
mod endpoint;
mod error;
mod event;
mod http_provider;
mod json;
#[cfg(any(feature = "anthropic", feature = "gemini"))]
mod json_schema;
mod memory;
mod message;
mod protocol;
mod provider;
mod redact;
mod request;
mod response;
mod retry_hint;
mod stream;

#[cfg(feature = "anthropic")]
pub mod anthropic;
pub mod client;
pub mod conformance;
pub mod decode;
#[cfg(feature = "gemini")]
pub mod gemini;
#[cfg(feature = "ollama")]
pub mod ollama;
#[cfg(feature = "openai")]
pub mod openai;
pub mod transport;

pub use capabilities::{Capabilities, Feature};
pub use endpoint::Endpoint;
pub use error::{ApiError, ApiErrorKind, Deadline, Error, Phase, Result};
pub use event::{BlockStart, StreamEvent};
pub use http_provider::HttpProvider;
pub use memory::{MemoryProvider, Reply};
pub use message::{Content, File, Media, MediaSource, Message, Opaque, Reasoning, Role, Text, ToolCall, ToolResult};
#[cfg(feature = "openai")]
pub use openai::OpenAi;
pub use protocol::{Decode, Mode, Protocol};
pub use provider::{
    Availability, BoxFuture, EmbeddingProvider, EmbeddingRequest, EmbeddingResponse, LlmProvider, LlmProviderExt,
};
pub use request::{
    Effort, FunctionTool, JsonSchema, OnUnsupported, OutputFormat, ReasoningOptions, Request, Tool, ToolChoice,
};
pub use response::{LogProbs, Response, Stop, StopReason, TokenLogProb, Usage};
pub use stream::{EventStream, ResponseStream};
