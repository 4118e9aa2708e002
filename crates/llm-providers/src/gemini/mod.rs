//! Gemini's protocol, `generateContent`.
//!
//! What is particular:
//! - Signatures of thoughts (`thoughtSignature`) are kept with the block they came on and go back with it: without them Gemini 3
//!   refuses the turn after a call of a tool. A signature on a picture or a file is a [`Content::Other`](crate::Content::Other) behind
//!   it.
//! - A call of a tool may have no id; then it gets one of ours, which is not sent back.
//! - The vendor says `STOP` for calls of tools as well; here that is [`StopReason::ToolCalls`](crate::StopReason::ToolCalls).
//! - Code that the vendor ran and its output are [`Content::Other`](crate::Content::Other). It may say `STOP` before the output comes:
//!   that is not the end.
//! - A prompt that is blocked has no answer; the response is empty and its stop reason
//!   [`StopReason::ContentFilter`](crate::StopReason::ContentFilter).
//! - One answer is read, the first, whatever `candidateCount` says.
//! - [`Effort`](crate::Effort) is `thinkingLevel`, which models before Gemini 3 do not take: give them a budget. `XHigh` and `Max` are
//!   `high`, `None` is a budget of 0. `visible` is `includeThoughts`.
//! - [`Usage::input`](crate::Usage::input) includes the prompts of the vendor's own tools, [`Usage::output`](crate::Usage::output) the
//!   thoughts: together they are the vendor's total.
//! - Schemas: answers follow `responseJsonSchema`; a tool's schema goes as `parameters` where that says all of it (a part of OpenAPI),
//!   else as `parametersJsonSchema`. Keywords that this refuses (`$schema`, `pattern`, bounds other than `minimum`, `maximum`,
//!   `minItems`, `maxItems`, ...) move to the description; `const` becomes `enum`, a single `allOf` is opened. Whether a function's
//!   schema is enforced cannot be chosen.
//! - The result of a tool is an object: text that is a JSON object goes as it is, other text as `result`, a failure's as `error`.

mod request;
mod response;
mod schema;
mod stream;
mod wire;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::capabilities::{Capabilities, Feature};
use crate::endpoint::{Auth, Endpoint};
use crate::error::{ApiError, Error, Result};
use crate::json;
use crate::protocol::{Decode, Mode, Protocol};
use crate::provider::{Availability, EmbeddingRequest, EmbeddingResponse};
use crate::request::Request;
use crate::response::Response;

/// OpenTelemetry's word.
pub(crate) const NAME: &str = "gcp.gemini";

/// Never in the address, which ends up in logs.
const AUTH: Auth = Auth { header: "x-goog-api-key", prefix: "" };

/// Gemini's protocol; see the [module](self).
#[derive(Debug, Clone)]
pub struct Gemini {
    endpoint: Endpoint,
    version: String,
}

impl Gemini {
    /// The vendor's server.
    pub const BASE_URL: &str = "https://generativelanguage.googleapis.com";

    /// The variables of the key; the first that is set counts, as in the vendor's own client.
    pub const KEY_VARIABLES: [&str; 2] = ["GOOGLE_API_KEY", "GEMINI_API_KEY"];

    /// The protocol, spoken to a server without `/v1beta` in its address.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, version: "v1beta".to_owned() }
    }

    /// With another version of the protocol than `v1beta`, such as `v1`.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// The path of a model; a bare name is one of `models/`.
    fn model_path(&self, model: &str) -> Result<String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/@:".contains(c);
        if model.is_empty() || !model.chars().all(is_plain) || model.contains("..") {
            return Err(Error::InvalidRequest {
                provider: NAME.to_owned(),
                problem: "expected a model's name of letters, digits and -._/@:".to_owned(),
            });
        }
        Ok(format!("/{}/{}", self.version, resource(model)))
    }
}

/// The full name of a model.
fn resource(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

impl Protocol for Gemini {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::all().without(Feature::ParallelToolCalls)
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn request(&self, request: &Request, mode: Mode) -> Result<http::Request<Bytes>> {
        let (method, accept) = match mode {
            Mode::Whole => ("generateContent", "application/json"),
            // Without alt=sse the stream is one JSON array.
            Mode::Stream => ("streamGenerateContent?alt=sse", "text/event-stream"),
        };
        let body = json::body_with_extra(NAME, &request::generate(self, request)?, request)?;
        self.endpoint.post(&format!("{}:{method}", self.model_path(&request.model)?), accept, AUTH, body)
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
        self.endpoint.get(&format!("/{}/models?pageSize=1000", self.version), AUTH)
    }

    fn availability(&self, body: &[u8]) -> Result<Availability> {
        response::availability(body)
    }

    fn embedding_request(&self, request: &EmbeddingRequest) -> Result<http::Request<Bytes>> {
        let path = format!("{}:batchEmbedContents", self.model_path(&request.model)?);
        let body = json::body(NAME, &request::embed(request))?;
        self.endpoint.post(&path, "application/json", AUTH, body)
    }

    fn embeddings(&self, request: &EmbeddingRequest, body: &[u8]) -> Result<EmbeddingResponse> {
        response::embeddings(request, body)
    }
}
