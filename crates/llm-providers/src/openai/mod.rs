//! OpenAI's protocol, as OpenAI speaks it and as the servers that copy it do (llama.cpp, vLLM, OpenRouter and many more).
//!
//! [`Api::Chat`] is what everyone understands; [`Api::Responses`] has what is newer at OpenAI: reasoning that goes on over the calls of
//! tools, tools of OpenAI's own.

mod chat;
mod embeddings;
mod error;
mod log_probs;
mod models;
mod part;
mod responses;
mod schema;
mod sequence;
mod usage;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::capabilities::{Capabilities, Feature};
use crate::endpoint::{Auth, Endpoint};
use crate::error::{ApiError, Error, Result};
use crate::protocol::{Decode, Mode, Protocol};
use crate::provider::{Availability, EmbeddingRequest, EmbeddingResponse};
use crate::request::Request;
use crate::response::Response;

/// OpenAI's protocol at one server.
///
/// ```
/// use llm_providers::openai::{Api, OpenAi};
/// use llm_providers::Endpoint;
///
/// let local = OpenAi::new(Endpoint::new("http://127.0.0.1:8080/v1")?).with_name("llama.cpp");
/// let hosted = OpenAi::new(Endpoint::new(OpenAi::BASE_URL)?).with_api(Api::Responses);
/// # Ok::<(), llm_providers::Error>(())
/// ```
///
/// The defaults follow the address: at OpenAI's own what OpenAI has, elsewhere what compatible servers understand.
#[derive(Debug, Clone)]
pub struct OpenAi {
    endpoint: Endpoint,
    name: String,
    api: Api,
    token_bound: TokenBound,
    system_role: SystemRole,
    stream_end: StreamEnd,
    reasoning_key: ReasoningKey,
    sends_reasoning: bool,
    asks_for_usage: bool,
    stores: Option<bool>,
    vendor_is_openai: bool,
}

impl OpenAi {
    /// OpenAI's address.
    pub const BASE_URL: &str = "https://api.openai.com/v1";
    /// The environment variable of the key.
    pub const KEY_VARIABLE: &str = "OPENAI_API_KEY";
    /// The environment variable of another address.
    pub const BASE_URL_VARIABLE: &str = "OPENAI_BASE_URL";

    /// The protocol at a server; its address ends with what stands before `/chat/completions`.
    pub fn new(endpoint: Endpoint) -> Self {
        let (host, _) = endpoint.server();
        let is_at = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let vendor_is_openai = is_at("api.openai.com");
        let reasoning_key = if is_at("openrouter.ai") { ReasoningKey::Object } else { ReasoningKey::Effort };
        Self {
            endpoint,
            name: "openai".to_owned(),
            api: Api::Chat,
            token_bound: if vendor_is_openai { TokenBound::MaxCompletionTokens } else { TokenBound::MaxTokens },
            system_role: SystemRole::System,
            stream_end: StreamEnd::Done,
            reasoning_key,
            sends_reasoning: !vendor_is_openai,
            asks_for_usage: true,
            stores: None,
            vendor_is_openai,
        }
    }

    /// Another name of the provider: in errors, traces, and on the data that only this server understands. Default: `openai`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Which of the two interfaces. Default: [`Api::Chat`].
    #[must_use]
    pub fn with_api(mut self, api: Api) -> Self {
        self.api = api;
        self
    }

    /// Which key bounds the answer of a chat. Default: [`TokenBound::MaxCompletionTokens`] at OpenAI, else [`TokenBound::MaxTokens`].
    #[must_use]
    pub fn with_token_bound(mut self, key: TokenBound) -> Self {
        self.token_bound = key;
        self
    }

    /// The role of instructions. Default: [`SystemRole::System`], which OpenAI takes for `developer` where it must.
    #[must_use]
    pub fn with_system_role(mut self, role: SystemRole) -> Self {
        self.system_role = role;
        self
    }

    /// What ends a stream of a chat. Default: [`StreamEnd::Done`].
    #[must_use]
    pub fn with_stream_end(mut self, end: StreamEnd) -> Self {
        self.stream_end = end;
        self
    }

    /// How a chat asks for reasoning. Default: [`ReasoningKey::Object`] at OpenRouter, else [`ReasoningKey::Effort`].
    #[must_use]
    pub fn with_reasoning_key(mut self, key: ReasoningKey) -> Self {
        self.reasoning_key = key;
        self
    }

    /// Whether reasoning that the server showed in a chat goes back to it in the next turn. Default: yes, except at OpenAI, which shows
    /// none there and refuses it.
    #[must_use]
    pub fn with_reasoning_sent_back(mut self, sends_reasoning: bool) -> Self {
        self.sends_reasoning = sends_reasoning;
        self
    }

    /// Whether a stream of a chat asks for its usage with `stream_options`. Default: yes; a few servers do not know the key.
    #[must_use]
    pub fn with_usage_in_streams(mut self, asks_for_usage: bool) -> Self {
        self.asks_for_usage = asks_for_usage;
        self
    }

    /// Whether OpenAI keeps answers of the Responses API. Default: unsaid, which there means yes. With `false` a request asks for
    /// reasoning in encrypted form, so that it can be sent back all the same.
    #[must_use]
    pub fn with_store(mut self, stores: bool) -> Self {
        self.stores = Some(stores);
        self
    }

    /// The organisation that is billed.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for control characters.
    pub fn with_organization(mut self, organization: &str) -> Result<Self> {
        self.endpoint = self.endpoint.with_header("openai-organization", organization)?;
        Ok(self)
    }

    /// The project that is billed.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for control characters.
    pub fn with_project(mut self, project: &str) -> Result<Self> {
        self.endpoint = self.endpoint.with_header("openai-project", project)?;
        Ok(self)
    }

    fn invalid(&self, problem: impl Into<String>) -> Error {
        Error::InvalidRequest { provider: self.name.clone(), problem: problem.into() }
    }

    /// A tool of the server's own; one of another vendor's would be missed if it were left out.
    fn own_tool(&self, tool: &crate::message::Opaque) -> Result<serde_json::Value> {
        tool.of(&self.name).cloned().ok_or_else(|| self.invalid(format!("a tool of {}", tool.provider)))
    }

    fn post(
        &self,
        path: &str,
        accept: &'static str,
        body: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<http::Request<Bytes>> {
        let body = serde_json::to_vec(body).map_err(|_| self.invalid("a value that JSON cannot say"))?;
        self.endpoint.post(path, accept, Auth::BEARER, body)
    }
}

/// The interfaces of OpenAI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Api {
    /// `/chat/completions`.
    #[default]
    Chat,
    /// `/responses`.
    Responses,
}

/// The key that bounds the answer of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenBound {
    /// `max_tokens`: what every compatible server knows.
    MaxTokens,
    /// `max_completion_tokens`: what OpenAI's reasoning models require.
    MaxCompletionTokens,
}

/// The role of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemRole {
    /// `system`.
    System,
    /// `developer`.
    Developer,
}

impl SystemRole {
    fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
        }
    }
}

/// What ends a stream of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The line `[DONE]` behind a `finish_reason`, as the protocol says.
    Done,
    /// The end of the body as well, behind a `finish_reason`: for servers that send no `[DONE]`. Usage that a broken connection kept
    /// back is then missed.
    FinishReason,
}

/// How a chat asks for reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReasoningKey {
    /// `reasoning_effort`, a word. There is no word for a budget in tokens, nor for showing reasoning.
    Effort,
    /// OpenRouter's object `reasoning`, of `effort`, `max_tokens` and `exclude`.
    Object,
}

impl Protocol for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        let lacking: &[Feature] = match self.api {
            Api::Responses => &[Feature::TopK, Feature::Seed, Feature::Stop, Feature::Penalties],
            Api::Chat if self.vendor_is_openai => &[Feature::TopK],
            Api::Chat => &[],
        };
        lacking.iter().fold(Capabilities::all(), |all, feature| all.without(*feature))
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn request(&self, request: &Request, mode: Mode) -> Result<http::Request<Bytes>> {
        let (path, body) = match self.api {
            Api::Chat => ("/chat/completions", self.chat_body(request, mode)?),
            Api::Responses => ("/responses", self.responses_body(request, mode)?),
        };
        let accept = match mode {
            Mode::Whole => "application/json",
            Mode::Stream => "text/event-stream",
        };
        self.post(path, accept, &body)
    }

    fn response(&self, _headers: &HeaderMap, body: &[u8]) -> Result<Response> {
        match self.api {
            Api::Chat => chat::response(&self.name, body),
            Api::Responses => responses::response(&self.name, body),
        }
    }

    fn error(&self, status: StatusCode, body: &[u8]) -> ApiError {
        error::read(&self.name, status.as_u16(), body)
    }

    fn decoder(&self) -> Box<dyn Decode> {
        match self.api {
            Api::Chat => Box::new(chat::Decoder::new(&self.name, self.stream_end)),
            Api::Responses => Box::new(responses::Decoder::new(&self.name)),
        }
    }

    fn availability_request(&self) -> Result<http::Request<Bytes>> {
        self.endpoint.get("/models", Auth::BEARER)
    }

    fn availability(&self, body: &[u8]) -> Result<Availability> {
        models::read(&self.name, body)
    }

    fn embedding_request(&self, request: &EmbeddingRequest) -> Result<http::Request<Bytes>> {
        self.post("/embeddings", "application/json", &embeddings::body(request))
    }

    fn embeddings(&self, request: &EmbeddingRequest, body: &[u8]) -> Result<EmbeddingResponse> {
        embeddings::read(&self.name, request, body)
    }
}
