//! Answering the same request once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::StreamExt;

use super::response_cache::{Key, ResponseCache};
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::Request;
use crate::response::{Response, StopReason};
use crate::stream::ResponseStream;

/// Answers requests that were answered before from a [`ResponseCache`].
///
/// Two requests are the same when the provider's name, its server and all that is asked are, keys of schemas in their order included,
/// because that order changes what models write. Only whole answers are kept. Calls of [`complete`](LlmProvider::complete) that ask the
/// same at the same time share one request: when its caller is dropped, the next one asks anew, and when it fails, all of them get
/// [`Error::Shared`]. Streams are answered from the cache and fill it, but do not wait for each other.
///
/// An answer from the cache is as the vendor gave it then, its usage included; nothing is spent on it, so the cache stands outside of
/// [`Costs`](super::Costs) and [`Observed`](super::Observed). Reading and writing the folder blocks the thread for as long as the
/// file system takes.
#[derive(Debug)]
pub struct Cache<P> {
    inner: P,
    cache: Arc<ResponseCache>,
}

impl<P: LlmProvider> Cache<P> {
    /// Answers from `cache`.
    pub fn new(inner: P, cache: Arc<ResponseCache>) -> Self {
        Self { inner, cache }
    }

    fn key(&self, request: &Request) -> Option<Key> {
        if !self.cache.config.when.caches(request) {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        // The version of what is stored comes first: another one has other keys.
        let asked = ("llm-providers 1", self.inner.name(), self.inner.server(), request);
        serde_json::to_writer(&mut hasher, &asked).ok()?;
        Some(hasher.finalize())
    }
}

/// Whether an answer is the model's last word.
fn is_whole(response: &Response) -> bool {
    !matches!(response.stop.reason, StopReason::Error | StopReason::Incomplete)
}

impl<P: LlmProvider> LlmProvider for Cache<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let Some(key) = self.key(request) else { return self.inner.complete(request).await };
            let mut hit = true;
            let seat = self.cache.board(key);
            let answer = seat.flight.get_or_init(async || {
                if let Some(response) = self.cache.get(&key) {
                    return Ok(response);
                }
                hit = false;
                let response = Arc::new(self.inner.complete(request).await.map_err(Arc::new)?);
                if is_whole(&response) {
                    self.cache.put(&key, &response);
                }
                Ok(response)
            });
            let answer = answer.await.clone();
            if answer.is_ok() || !hit {
                self.cache.count(hit);
            }
            drop(seat);
            match answer {
                Ok(response) => Ok(Arc::unwrap_or_clone(response)),
                Err(error) => Err(Arc::try_unwrap(error).unwrap_or_else(Error::Shared)),
            }
        })
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(async move {
            let Some(key) = self.key(request) else { return self.inner.stream(request).await };
            let hit = self.cache.get(&key);
            self.cache.count(hit.is_some());
            if let Some(response) = hit {
                let events = Arc::unwrap_or_clone(response).into_events().into_iter().map(Ok);
                return Ok(ResponseStream::new(self.name(), Box::pin(futures_util::stream::iter(events))));
            }
            let stream = self.inner.stream(request).await?;
            let kept = Kept { stream, cache: self.cache.clone(), key };
            Ok(ResponseStream::new(self.name(), Box::pin(kept)))
        })
    }

    fn available(&self) -> BoxFuture<'_, Result<Availability>> {
        self.inner.available()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn server(&self) -> Option<(&str, u16)> {
        self.inner.server()
    }
}

/// A stream whose answer is kept when it is whole.
struct Kept {
    stream: ResponseStream,
    cache: Arc<ResponseCache>,
    key: Key,
}

impl Stream for Kept {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.poll_next_unpin(context);
        if matches!(&polled, Poll::Ready(Some(Ok(StreamEvent::End(_))))) && is_whole(self.stream.so_far()) {
            self.cache.put(&self.key, &Arc::new(self.stream.so_far().clone()));
        }
        polled
    }
}
