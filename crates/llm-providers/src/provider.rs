//! The traits that providers implement.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::error::Result;
use crate::message::Message;
use crate::request::Request;
use crate::response::{Response, Usage};
use crate::stream::ResponseStream;

/// A future that a trait object can give.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that answers: a vendor, a server, or a wrapper around another provider. Open to implementations elsewhere.
///
/// # Contract
///
/// - The two ways of asking give the same answer: what [`stream`](Self::stream) ends with is what [`complete`](Self::complete) gives.
/// - A stream keeps the order that [`StreamEvent`](crate::StreamEvent) describes. One that ends before its `End` is an error, which
///   [`ResponseStream`] sees to.
/// - Dropping the future or the stream stops the request at the server; nothing goes on in the background.
/// - A provider does not repeat requests: that is the business of [`Retry`](crate::client::Retry), once, on the outside.
/// - No error shows what was asked or a key.
///
/// [`conformance::check`](crate::conformance) holds a provider to it.
pub trait LlmProvider: Debug + Send + Sync + 'static {
    /// Who this is, in OpenTelemetry's words where it has one: `openai`, `anthropic`, `gcp.gemini`, `ollama`.
    fn name(&self) -> &str;

    /// The whole answer.
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>>;

    /// The answer as it comes. The future is done when the server has accepted the request.
    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>>;

    /// Asks the server whether it is there, as cheaply as it allows.
    fn available(&self) -> BoxFuture<'_, Result<Availability>>;

    /// What the provider can do. Whether the model can is for the server to say.
    fn capabilities(&self) -> Capabilities;

    /// Where requests go, `host:port`, for traces. `None` for providers in memory.
    fn server(&self) -> Option<(&str, u16)> {
        None
    }
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Availability {
    /// The models that it offers, where it lists them.
    pub models: Vec<String>,
}

impl Availability {
    /// A server with these models.
    pub fn new(models: Vec<String>) -> Self {
        Self { models }
    }
}

/// Conveniences of every provider.
pub trait LlmProviderExt: LlmProvider {
    /// The text that answers one question.
    fn ask<'a>(&'a self, model: &str, question: &str) -> BoxFuture<'a, Result<String>> {
        let request = Request::new(model, [Message::user(question)]);
        Box::pin(async move { Ok(self.complete(&request).await?.text()) })
    }

    /// Continues a conversation: the answer is appended to `messages` as well.
    fn converse<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let response = self.complete(request).await?;
            request.messages.push(response.message.clone());
            Ok(response)
        })
    }
}

impl<P: LlmProvider + ?Sized> LlmProviderExt for P {}

/// Something that turns texts into vectors.
pub trait EmbeddingProvider: Debug + Send + Sync + 'static {
    /// One vector for each text.
    fn embed<'a>(&'a self, request: &'a EmbeddingRequest) -> BoxFuture<'a, Result<EmbeddingResponse>>;
}

/// Texts to be turned into vectors.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbeddingRequest {
    /// The model.
    pub model: String,
    /// The texts.
    pub input: Vec<String>,
    /// Length of the vectors, where the model lets one choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
}

impl EmbeddingRequest {
    /// Texts for a model.
    pub fn new(model: impl Into<String>, input: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { model: model.into(), input: input.into_iter().map(Into::into).collect(), dimensions: None }
    }
}

impl Debug for EmbeddingRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmbeddingRequest({}, {} texts)", self.model, self.input.len())
    }
}

/// Vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbeddingResponse {
    /// The model that made them.
    pub model: String,
    /// One for each text, in the order of the texts.
    pub embeddings: Vec<Vec<f32>>,
    /// Tokens of the texts.
    pub usage: Usage,
}

impl EmbeddingResponse {
    /// Vectors of a model.
    pub fn new(model: impl Into<String>, embeddings: Vec<Vec<f32>>, usage: Usage) -> Self {
        Self { model: model.into(), embeddings, usage }
    }
}

macro_rules! forward {
    ($($pointer:ty),+) => {$(
        impl<P: LlmProvider + ?Sized> LlmProvider for $pointer {
            fn name(&self) -> &str {
                (**self).name()
            }

            fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
                (**self).complete(request)
            }

            fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
                (**self).stream(request)
            }

            fn available(&self) -> BoxFuture<'_, Result<Availability>> {
                (**self).available()
            }

            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }

            fn server(&self) -> Option<(&str, u16)> {
                (**self).server()
            }
        }

        impl<P: EmbeddingProvider + ?Sized> EmbeddingProvider for $pointer {
            fn embed<'a>(&'a self, request: &'a EmbeddingRequest) -> BoxFuture<'a, Result<EmbeddingResponse>> {
                (**self).embed(request)
            }
        }
    )+};
}

forward!(&'static P, Box<P>, Arc<P>);

/// Both traits can be trait objects.
const _: fn(&dyn LlmProvider, &dyn EmbeddingProvider) = |_, _| {};
