//! Ollama's own protocol, `/api/chat`.
//!
//! Its OpenAI-compatible address ignores the size of the context and the switch of the reasoning, so this is the way to ask it.
//!
//! What is particular:
//! - Ollama cuts a conversation to the model's `num_ctx` tokens (4096 unless the server says otherwise) without a word: set
//!   [`Ollama::with_num_ctx`] for long ones.
//! - [`Effort`](crate::Effort): `None` is `think: false`, `Minimal` and `Low` are `"low"`, `High` and `XHigh` are `"high"`, the others
//!   their own word; options without an effort are `think: true`, which is what models without levels take. There is no budget of
//!   tokens and no hidden reasoning: a request that wants them is refused, or with
//!   [`OnUnsupported::Drop`](crate::OnUnsupported::Drop) goes without.
//! - Tools cannot be forced or forbidden.
//! - Log-probabilities come without ids: [`LogProbs::aligned`](crate::LogProbs::aligned) is always false.
//! - A server that is loading a model is slow with its first byte; that is not an error.

mod request;
mod response;
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

pub(crate) const NAME: &str = "ollama";

/// Ollama's protocol; see the [module](self).
#[derive(Debug, Clone)]
pub struct Ollama {
    endpoint: Endpoint,
    keep_alive: Option<String>,
    num_ctx: Option<u32>,
}

impl Ollama {
    /// Where a server of one's own listens by default.
    pub const BASE_URL: &str = "http://127.0.0.1:11434";

    /// The variable that says where the server is; see [`Ollama::address`].
    pub const HOST_VARIABLE: &str = "OLLAMA_HOST";

    /// The variable of the key that Ollama's cloud wants.
    pub const KEY_VARIABLE: &str = "OLLAMA_API_KEY";

    /// The protocol, spoken to a server without `/api` in its address.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, keep_alive: None, num_ctx: None }
    }

    /// How long the server keeps the model in memory after the answer: `5m`, `1h`, `0` to drop it, a negative time for ever. Default:
    /// the server's, five minutes.
    #[must_use]
    pub fn with_keep_alive(mut self, keep_alive: impl Into<String>) -> Self {
        self.keep_alive = Some(keep_alive.into());
        self
    }

    /// Tokens of context the model is loaded with. Default: the server's. A larger one takes more memory, and a change loads the model
    /// anew.
    #[must_use]
    pub fn with_num_ctx(mut self, num_ctx: u32) -> Self {
        self.num_ctx = Some(num_ctx);
        self
    }

    /// The address that a value of `OLLAMA_HOST` means, read as Ollama reads it: `host`, `host:port`, `:port`, an address with or
    /// without `http://`; port 11434 unless there is a scheme. The addresses that a server listens on everywhere with, `0.0.0.0` and
    /// `[::]`, are this machine's.
    ///
    /// ```
    /// use llm_providers::ollama::Ollama;
    ///
    /// assert_eq!(Ollama::address("0.0.0.0")?, "http://127.0.0.1:11434");
    /// assert_eq!(Ollama::address(":8080")?, "http://127.0.0.1:8080");
    /// assert_eq!(Ollama::address("https://models.example")?, "https://models.example:443");
    /// # Ok::<(), llm_providers::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for a port that is none.
    pub fn address(host: &str) -> Result<String> {
        let host = host.trim().trim_matches(['"', '\'']);
        let (scheme, rest) = match host.split_once("://") {
            Some(parts) => parts,
            None if host == "ollama.com" => ("https", host),
            None => ("http", host),
        };
        let default_port = match scheme {
            "https" => 443,
            "http" if host.contains("://") => 80,
            _ => 11434,
        };
        let (server, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // The colons of an IPv6 address without brackets are no port.
        let is_bare_v6 = server.parse::<std::net::Ipv6Addr>().is_ok();
        let (name, port) = match server.rsplit_once(':') {
            Some((name, port)) if !is_bare_v6 && !port.contains(']') => {
                let port = port.parse::<u16>().map_err(|_| Error::Configuration {
                    setting: Self::HOST_VARIABLE.to_owned(),
                    problem: "expected a port from 0 to 65535 behind the last colon".to_owned(),
                })?;
                (name, port)
            }
            _ => (server, default_port),
        };
        let name = match name.trim_matches(['[', ']']) {
            "" | "0.0.0.0" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            v6 if v6.contains(':') => format!("[{v6}]"),
            name => name.to_owned(),
        };
        Ok(format!("{scheme}://{name}:{port}{}", path.trim_end_matches('/')))
    }
}

impl Protocol for Ollama {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
            .without(Feature::ToolChoice)
            .without(Feature::ParallelToolCalls)
            .without(Feature::Files)
            .without(Feature::MediaUrls)
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn request(&self, request: &Request, mode: Mode) -> Result<http::Request<Bytes>> {
        let accept = match mode {
            Mode::Whole => "application/json",
            Mode::Stream => "application/x-ndjson",
        };
        let body = request::chat(self, request, mode)?;
        self.endpoint.post("/api/chat", accept, Auth::BEARER, json::body_with_extra(NAME, &body, request)?)
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
        self.endpoint.get("/api/tags", Auth::BEARER)
    }

    fn availability(&self, body: &[u8]) -> Result<Availability> {
        response::availability(body)
    }

    fn embedding_request(&self, request: &EmbeddingRequest) -> Result<http::Request<Bytes>> {
        let body = request::embed(self, request);
        self.endpoint.post("/api/embed", "application/json", Auth::BEARER, json::body(NAME, &body)?)
    }

    fn embeddings(&self, _request: &EmbeddingRequest, body: &[u8]) -> Result<EmbeddingResponse> {
        response::embeddings(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_ollama_reads_them() {
        // The cases of Ollama's own test of its variable, and the addresses that it listens on.
        for (host, address) in [
            ("", "http://127.0.0.1:11434"),
            ("1.2.3.4", "http://1.2.3.4:11434"),
            (":1234", "http://127.0.0.1:1234"),
            ("1.2.3.4:1234", "http://1.2.3.4:1234"),
            ("example.com", "http://example.com:11434"),
            ("example.com:1234", "http://example.com:1234"),
            ("http://1.2.3.4", "http://1.2.3.4:80"),
            ("https://1.2.3.4", "https://1.2.3.4:443"),
            ("https://1.2.3.4:1234", "https://1.2.3.4:1234"),
            ("https://example.com/ollama/", "https://example.com:443/ollama"),
            ("ollama.com", "https://ollama.com:443"),
            ("[::1]", "http://[::1]:11434"),
            ("::1", "http://[::1]:11434"),
            ("[::1]:1337", "http://[::1]:1337"),
            (" 1.2.3.4 ", "http://1.2.3.4:11434"),
            ("\"1.2.3.4\"", "http://1.2.3.4:11434"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]", "http://[::1]:11434"),
        ] {
            let read = Ollama::address(host).unwrap();
            assert_eq!(read, address, "{host:?}");
            assert!(Endpoint::new(&read).is_ok(), "{read}");
        }
        assert!(Ollama::address("host:66000").is_err());
        assert!(Ollama::address("host:port").is_err());
    }
}
