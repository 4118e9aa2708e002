//! A protocol joined with a transport.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;

use crate::capabilities::Capabilities;
use crate::error::{ApiError, Error, Result};
use crate::event::StreamEvent;
use crate::protocol::{Decode, Mode, Protocol};
use crate::provider::{Availability, BoxFuture, EmbeddingProvider, EmbeddingRequest, EmbeddingResponse, LlmProvider};
use crate::redact::{RequestTexts, Room};
use crate::request::Request;
use crate::response::Response;
use crate::retry_hint;
use crate::stream::ResponseStream;
use crate::transport::{Body, Finished, Transport};

/// Largest answer that is read at once, and largest event of a stream, in bytes.
pub(crate) const LARGEST: usize = 32 << 20;

/// Largest answer to a request that failed; what is beyond is not read.
const LARGEST_ERROR: usize = 64 << 10;

/// A provider over HTTP: a [`Protocol`] and a [`Transport`].
#[derive(Debug, Clone)]
pub struct HttpProvider<P> {
    protocol: P,
    transport: Arc<dyn Transport>,
}

impl<P: Protocol> HttpProvider<P> {
    /// `protocol` spoken over `transport`.
    pub fn new(protocol: P, transport: Arc<dyn Transport>) -> Self {
        Self { protocol, transport }
    }

    /// The protocol.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The head of an answer that succeeded.
    async fn send(
        &self,
        request: http::Request<Bytes>,
        texts: impl FnOnce() -> RequestTexts,
    ) -> Result<http::Response<Body>> {
        let response = self.transport.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        // A body that breaks is still an error with its status.
        let body = collect(body, LARGEST_ERROR, OnLarge::Cut).await.unwrap_or_default();
        Err(self.api_error(head.status, &head.headers, &body, &texts()).into())
    }

    fn api_error(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], texts: &RequestTexts) -> ApiError {
        let mut error = self.protocol.error(status, body);
        complete_error(&mut error, headers, &self.protocol);
        strike(&mut error, texts, self.protocol.secret());
        error
    }

    /// An error that came under a status of success, as it may be shown.
    fn of_success(&self, mut error: Error, headers: &HeaderMap, request: &Request) -> Error {
        if let Error::Api(error) = &mut error {
            complete_error(error, headers, &self.protocol);
            strike(error, &RequestTexts::of(request, Room::Ample), self.protocol.secret());
        }
        error
    }

    async fn whole(
        &self,
        request: http::Request<Bytes>,
        texts: impl Fn() -> RequestTexts,
    ) -> Result<(HeaderMap, Bytes)> {
        let (head, body) = self.send(request, texts).await?.into_parts();
        self.expect_json(&head.headers)?;
        Ok((head.headers, collect(body, LARGEST, OnLarge::Fail).await?))
    }

    /// Refuses what says that it is something else (a login page, an image); servers that say nothing are believed.
    fn expect_json(&self, headers: &HeaderMap) -> Result<()> {
        match content_type(headers) {
            "" | "text/plain" => Ok(()),
            found if found.contains("json") => Ok(()),
            found => Err(Error::Decode {
                provider: self.protocol.name().to_owned(),
                expected: "application/json".to_owned(),
                found: printable(found),
            }),
        }
    }
}

impl<P: Protocol> LlmProvider for HttpProvider<P> {
    fn name(&self) -> &str {
        self.protocol.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let asked = request.supported(self.name(), &self.capabilities())?;
            let sent = self.protocol.request(&asked, Mode::Whole)?;
            let (headers, body) = self.whole(sent, || RequestTexts::of(request, Room::Ample)).await?;
            self.protocol.response(&headers, &body).map_err(|error| self.of_success(error, &headers, request))
        })
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(async move {
            let asked = request.supported(self.name(), &self.capabilities())?;
            let sent = self.protocol.request(&asked, Mode::Stream)?;
            let (mut head, body) = self.send(sent, || RequestTexts::of(request, Room::Ample)).await?.into_parts();
            let found = content_type(&head.headers);
            if found == "application/json" {
                // A server that does not stream answers at once, or with an error under a status of success.
                let body = collect(body, LARGEST, OnLarge::Fail).await?;
                let response = self.protocol.response(&head.headers, &body);
                let response = response.map_err(|error| self.of_success(error, &head.headers, request))?;
                let events = futures_util::stream::iter(response.into_events().into_iter().map(Ok));
                return Ok(ResponseStream::new(self.name(), Box::pin(events)));
            }
            if !["", "text/event-stream", "application/x-ndjson", "text/plain", "application/ndjson"].contains(&found) {
                return Err(Error::Decode {
                    provider: self.name().to_owned(),
                    expected: "a stream".to_owned(),
                    found: printable(found),
                });
            }
            let finished = head.extensions.remove::<Finished>().unwrap_or_default();
            let events = Events {
                body,
                piece: Bytes::new(),
                decoded: 0,
                finished,
                decoder: self.protocol.decoder(),
                queue: VecDeque::new(),
                failed: None,
                ended: false,
                texts: RequestTexts::of(request, Room::Small),
                secret: self.protocol.secret().cloned(),
            };
            Ok(ResponseStream::new(self.name(), Box::pin(events)))
        })
    }

    fn available(&self) -> BoxFuture<'_, Result<Availability>> {
        Box::pin(async move {
            let request = self.protocol.availability_request()?;
            let (_, body) = self.whole(request, || RequestTexts::of(&Request::default(), Room::Ample)).await?;
            self.protocol.availability(&body)
        })
    }

    fn capabilities(&self) -> Capabilities {
        self.protocol.capabilities()
    }

    fn server(&self) -> Option<(&str, u16)> {
        Some(self.protocol.endpoint().server())
    }
}

impl<P: Protocol> EmbeddingProvider for HttpProvider<P> {
    fn embed<'a>(&'a self, request: &'a EmbeddingRequest) -> BoxFuture<'a, Result<EmbeddingResponse>> {
        Box::pin(async move {
            let sent = self.protocol.embedding_request(request)?;
            let (_, body) = self.whole(sent, || RequestTexts::of_embedding(request)).await?;
            let response = self.protocol.embeddings(request, &body)?;
            if response.embeddings.len() != request.input.len() {
                return Err(Error::Decode {
                    provider: self.name().to_owned(),
                    expected: format!("{} embeddings", request.input.len()),
                    found: response.embeddings.len().to_string(),
                });
            }
            Ok(response)
        })
    }
}

/// What headers say of an error, whoever the vendor is.
fn complete_error(error: &mut ApiError, headers: &HeaderMap, protocol: &impl Protocol) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    error.retry_after = retry_hint::retry_after(headers, std::time::SystemTime::now()).or(error.retry_after);
    error.should_retry = retry_hint::should_retry(headers).or(error.should_retry);
    let id = protocol.request_id_headers().iter().find_map(|name| text(name));
    error.request_id = id.map(printable).or(error.request_id.take());
}

fn strike(error: &mut ApiError, texts: &RequestTexts, secret: Option<&SecretString>) {
    error.message = texts.strike(&error.message, secret);
    error.code = error.code.take().map(|code| texts.strike(&code, secret));
}

fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// A word from a header, for an error.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// What to do with a body beyond a bound.
#[derive(PartialEq)]
enum OnLarge {
    Fail,
    Cut,
}

async fn collect(mut body: Body, limit: usize, on_large: OnLarge) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if first.len() + whole.len() + piece.len() > limit {
            if on_large == OnLarge::Cut {
                break;
            }
            return Err(Error::TooLarge { what: "an answer", limit });
        }
        // Most answers come in one piece, which then is not copied.
        if first.is_empty() && whole.is_empty() {
            first = piece;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// The events of a body.
struct Events {
    body: Body,
    /// What came last.
    piece: Bytes,
    /// How much of it is decoded.
    decoded: usize,
    finished: Finished,
    decoder: Box<dyn Decode>,
    queue: VecDeque<StreamEvent>,
    /// What comes after the queue.
    failed: Option<Error>,
    ended: bool,
    texts: RequestTexts,
    secret: Option<SecretString>,
}

impl Stream for Events {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.queue.pop_front() {
                if matches!(event, StreamEvent::End(_)) {
                    this.finished.set();
                }
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(mut error) = this.failed.take() {
                if let Error::Api(error) = &mut error {
                    strike(error, &this.texts, this.secret.as_ref());
                }
                return Poll::Ready(Some(Err(error)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let undecoded = &this.piece[this.decoded..];
            let taken = if undecoded.is_empty() {
                // What is read next can lie where this piece did.
                (this.piece, this.decoded) = (Bytes::new(), 0);
                match ready!(this.body.as_mut().poll_next(context)) {
                    Some(Ok(bytes)) => {
                        this.piece = bytes;
                        Ok(())
                    }
                    Some(Err(error)) => Err(error),
                    None => {
                        this.ended = true;
                        this.decoder.finish(&mut this.queue)
                    }
                }
            } else {
                // Line by line: a few bytes can be an event of many, and all those of a piece must not lie in memory while the reader
                // stands still.
                let end = memchr::memchr2(b'\n', b'\r', undecoded).map_or(undecoded.len(), |end| end + 1);
                this.decoded += end;
                this.decoder.push(&undecoded[..end], &mut this.queue)
            };
            if let Err(error) = taken {
                this.ended = true;
                this.failed = Some(error);
            }
        }
    }
}
