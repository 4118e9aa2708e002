//! A vendor's protocol, apart from how bytes travel.

use std::collections::VecDeque;
use std::fmt::Debug;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;

use crate::capabilities::{Capabilities, Feature};
use crate::endpoint::Endpoint;
use crate::error::{ApiError, Error, Result};
use crate::event::StreamEvent;
use crate::provider::{Availability, EmbeddingRequest, EmbeddingResponse};
use crate::request::Request;
use crate::response::Response;

/// How an answer is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At once.
    Whole,
    /// As a stream.
    Stream,
}

/// A vendor's protocol: what is sent, and how answers are read. Pure functions of bytes; [`HttpProvider`](crate::HttpProvider) joins
/// one with a [`Transport`](crate::transport::Transport). Open to implementations elsewhere.
pub trait Protocol: Debug + Send + Sync + 'static {
    /// The vendor's name; see [`LlmProvider::name`](crate::LlmProvider::name).
    fn name(&self) -> &str;

    /// What can be said in this protocol.
    fn capabilities(&self) -> Capabilities;

    /// Where requests go.
    fn endpoint(&self) -> &Endpoint;

    /// The HTTP request that asks. What `capabilities` lacks is not in `request`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] and [`Error::Unsupported`] for what cannot be said.
    fn request(&self, request: &Request, mode: Mode) -> Result<http::Request<Bytes>>;

    /// Reads a whole answer that came with a status of success.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`], or [`Error::Api`] for an error that came with a status of success.
    fn response(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response>;

    /// Reads the answer to a request that failed. Whatever came becomes an error; the caller strikes out what must not be shown, and
    /// reads the headers that are common to all vendors.
    fn error(&self, status: StatusCode, body: &[u8]) -> ApiError;

    /// A reader of a stream that has begun with a status of success.
    fn decoder(&self) -> Box<dyn Decode>;

    /// The cheapest request that tells whether the server is there.
    ///
    /// # Errors
    ///
    /// Where the address cannot be formed.
    fn availability_request(&self) -> Result<http::Request<Bytes>>;

    /// Reads the answer to [`availability_request`](Self::availability_request).
    ///
    /// # Errors
    ///
    /// [`Error::Decode`].
    fn availability(&self, body: &[u8]) -> Result<Availability>;

    /// The HTTP request for embeddings.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the vendor has none, which is the default.
    fn embedding_request(&self, _request: &EmbeddingRequest) -> Result<http::Request<Bytes>> {
        Err(Error::Unsupported { provider: self.name().to_owned(), feature: Feature::Embeddings })
    }

    /// Reads embeddings; `request` tells how many are expected.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`]; by default [`Error::Unsupported`].
    fn embeddings(&self, _request: &EmbeddingRequest, _body: &[u8]) -> Result<EmbeddingResponse> {
        Err(Error::Unsupported { provider: self.name().to_owned(), feature: Feature::Embeddings })
    }

    /// Where the vendor puts the id of a request.
    fn request_id_headers(&self) -> &[&str] {
        &["x-request-id", "request-id"]
    }

    /// The key, so that it can be struck out of errors.
    fn secret(&self) -> Option<&SecretString> {
        self.endpoint().key.as_ref()
    }
}

/// Reads a stream from pieces of its body, cut anywhere.
pub trait Decode: Send {
    /// Takes the next bytes and appends the events they complete. Events appended before an error are valid.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`], [`Error::TooLarge`], or [`Error::Api`] for an error in the stream.
    fn push(&mut self, bytes: &[u8], events: &mut VecDeque<StreamEvent>) -> Result<()>;

    /// The body ended.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] where the protocol's end did not come.
    fn finish(&mut self, events: &mut VecDeque<StreamEvent>) -> Result<()>;
}
