//! Anthropic's protocol, Messages.
//!
//! What is particular:
//! - System messages are joined at the top, wherever they stand. Neighbours of one role become one turn, and the results of tools come
//!   first in it: the protocol wants it so.
//! - An answer needs a bound: [`Request::max_tokens`](crate::Request::max_tokens), else
//!   [`Anthropic::with_default_max_tokens`]. A budget of reasoning counts within it, so the default grows by the budget.
//! - Reasoning goes back with its signature, unchanged, and is left out where there is none (another vendor's). Options without a
//!   budget are `thinking: adaptive`; [`Effort`](crate::Effort) is `output_config.effort`, where `Minimal` is `low`, and `None`
//!   switches thinking off. `visible` is `thinking.display`.
//! - There is no seed, no penalty, no log-probability, and no JSON without a schema.
//! - Blocks of the vendor's own tools (searches, code) are [`Content::Other`](crate::Content::Other) and go back as they came; so do
//!   citations.
//! - [`Message::cache_breakpoint`](crate::Message::cache_breakpoint) puts `cache_control` on the message's last block that can carry it.
//! - Schemas of answers and of strict tools lose the keywords that the vendor refuses: bounds of numbers and lengths, `oneOf` (which
//!   becomes `anyOf`), other formats; the model reads them in the description. Objects are closed.
//! - [`Usage::input`](crate::Usage::input) is the sum of what was read, read from a cache, and written to one.
//! - The text that stopped an answer is in [`Response::metadata`](crate::Response::metadata) as `stop_sequence`.

mod request;
mod response;
mod schema;
mod stream;
mod wire;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, StatusCode};

use crate::capabilities::{Capabilities, Feature};
use crate::endpoint::{Auth, Endpoint};
use crate::error::{ApiError, Error, Result};
use crate::json;
use crate::protocol::{Decode, Mode, Protocol};
use crate::provider::Availability;
use crate::request::Request;
use crate::response::Response;

pub(crate) const NAME: &str = "anthropic";

/// Anthropic's protocol; see the [module](self).
#[derive(Debug, Clone)]
pub struct Anthropic {
    endpoint: Endpoint,
    version: String,
    betas: Vec<String>,
    default_max_tokens: u32,
    cache_ttl: Option<String>,
    auth: Auth,
}

impl Anthropic {
    /// The vendor's server.
    pub const BASE_URL: &str = "https://api.anthropic.com";

    /// The variable of another server.
    pub const BASE_URL_VARIABLE: &str = "ANTHROPIC_BASE_URL";

    /// The variable of the key.
    pub const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";

    /// The variable of a token that is sent as a bearer's; see [`Anthropic::with_bearer`].
    pub const TOKEN_VARIABLE: &str = "ANTHROPIC_AUTH_TOKEN";

    /// The protocol, spoken to a server without `/v1` in its address.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            version: "2023-06-01".to_owned(),
            betas: Vec::new(),
            default_max_tokens: 4096,
            cache_ttl: None,
            auth: Auth { header: "x-api-key", prefix: "" },
        }
    }

    /// With another version of the protocol than `2023-06-01`.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// With a beta switched on, such as `files-api-2025-04-14`; several add up.
    #[must_use]
    pub fn with_beta(mut self, beta: impl Into<String>) -> Self {
        self.betas.push(beta.into());
        self
    }

    /// With another bound for answers to requests that have none than 4096 tokens.
    #[must_use]
    pub fn with_default_max_tokens(mut self, max_tokens: u32) -> Self {
        self.default_max_tokens = max_tokens;
        self
    }

    /// With another life of what is cached than the vendor's `5m`: `1h`.
    #[must_use]
    pub fn with_cache_ttl(mut self, ttl: impl Into<String>) -> Self {
        self.cache_ttl = Some(ttl.into());
        self
    }

    /// Sends the key as `Authorization: Bearer` instead of `x-api-key`: for tokens, and for gateways.
    #[must_use]
    pub fn with_bearer(mut self) -> Self {
        self.auth = Auth::BEARER;
        self
    }

    fn with_headers(&self, mut request: http::Request<Bytes>) -> Result<http::Request<Bytes>> {
        let value = |setting: &str, text: &str| {
            HeaderValue::try_from(text).map_err(|_| Error::Configuration {
                setting: setting.to_owned(),
                problem: "expected what can stand in a header, control characters came".to_owned(),
            })
        };
        request.headers_mut().insert("anthropic-version", value("version", &self.version)?);
        if !self.betas.is_empty() {
            request.headers_mut().insert("anthropic-beta", value("beta", &self.betas.join(","))?);
        }
        Ok(request)
    }
}

impl Protocol for Anthropic {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
            .without(Feature::Seed)
            .without(Feature::Penalties)
            .without(Feature::LogProbs)
            .without(Feature::JsonObject)
            .without(Feature::Embeddings)
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn request(&self, request: &Request, mode: Mode) -> Result<http::Request<Bytes>> {
        let accept = match mode {
            Mode::Whole => "application/json",
            Mode::Stream => "text/event-stream",
        };
        let body = json::body_with_extra(NAME, &request::messages(self, request, mode)?, request)?;
        self.with_headers(self.endpoint.post("/v1/messages", accept, self.auth, body)?)
    }

    fn response(&self, _headers: &HeaderMap, body: &[u8]) -> Result<Response> {
        response::whole(body)
    }

    fn error(&self, status: StatusCode, body: &[u8]) -> ApiError {
        response::error(status, body)
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(stream::Decoder::new())
    }

    fn availability_request(&self) -> Result<http::Request<Bytes>> {
        self.with_headers(self.endpoint.get("/v1/models?limit=1000", self.auth)?)
    }

    fn availability(&self, body: &[u8]) -> Result<Availability> {
        response::availability(body)
    }

    fn request_id_headers(&self) -> &[&str] {
        &["request-id", "x-request-id"]
    }
}
