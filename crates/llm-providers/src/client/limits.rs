//! Bounds on how much is asked at a time.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::capabilities::Capabilities;
use crate::error::Result;
use crate::event::StreamEvent;
use crate::message::Content;
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::Request;
use crate::response::{Response, Usage};
use crate::stream::{EventStream, ResponseStream};

/// Bounds; what is not set is not bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitConfig {
    /// Calls that go on at the same time; a stream goes on until it ends or is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
    /// Requests per minute, so many at once at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens per minute, prompts and answers together, so many at once at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<NonZeroU32>,
}

impl LimitConfig {
    /// With a bound on calls at the same time.
    #[must_use]
    pub fn with_concurrency(mut self, calls: NonZeroU32) -> Self {
        self.concurrency = Some(calls);
        self
    }

    /// With a bound on requests per minute.
    #[must_use]
    pub fn with_requests_per_minute(mut self, requests: NonZeroU32) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// With a bound on tokens per minute.
    #[must_use]
    pub fn with_tokens_per_minute(mut self, tokens: NonZeroU32) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }
}

/// Lets calls wait, in the order in which they come, until they may be made.
///
/// Tokens are estimated before a call (a quarter of the bytes of its texts, and [`Request::max_tokens`]) and put right by its usage
/// afterwards; a call that fails took none, and one that is dropped what was estimated. What was too little is waited for by the calls
/// after it. Stands inside of [`Retry`](super::Retry), so that every attempt counts and none holds a place while it waits, and outside
/// of [`Timeouts`](super::Timeouts), so that waiting here is not the server's fault.
#[derive(Debug)]
pub struct Limits<P> {
    inner: P,
    places: Option<Arc<Semaphore>>,
    requests: Option<Bucket>,
    tokens: Option<Arc<Bucket>>,
}

impl<P: LlmProvider> Limits<P> {
    /// With these bounds.
    pub fn new(inner: P, config: &LimitConfig) -> Self {
        Self {
            inner,
            places: config.concurrency.map(|calls| Arc::new(Semaphore::new(calls.get() as usize))),
            requests: config.requests_per_minute.map(Bucket::new),
            tokens: config.tokens_per_minute.map(|tokens| Arc::new(Bucket::new(tokens))),
        }
    }

    async fn admit(&self, request: &Request) -> Admission {
        // The semaphore is never closed.
        let place = match &self.places {
            Some(places) => places.clone().acquire_owned().await.ok(),
            None => None,
        };
        if let Some(requests) = &self.requests {
            requests.take(1.0).await;
        }
        let mut tokens = None;
        if let Some(bucket) = &self.tokens {
            let estimate = estimate(request).min(bucket.capacity);
            bucket.take(estimate).await;
            tokens = Some((bucket.clone(), estimate));
        }
        Admission { _place: place, tokens }
    }
}

impl<P: LlmProvider> LlmProvider for Limits<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let mut admission = self.admit(request).await;
            let answer = self.inner.complete(request).await;
            match &answer {
                Ok(response) => admission.settle(Some(&response.usage)),
                Err(_) => admission.settle(None),
            }
            answer
        })
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(async move {
            let mut admission = self.admit(request).await;
            match self.inner.stream(request).await {
                Ok(stream) => {
                    let admitted = Admitted { events: stream.into_events(), admission: Some(admission), usage: None };
                    Ok(ResponseStream::new(self.name(), Box::pin(admitted)))
                }
                Err(error) => {
                    admission.settle(None);
                    Err(error)
                }
            }
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

/// Tokens of a call before it is made.
fn estimate(request: &Request) -> f64 {
    fn bytes(content: &Content) -> usize {
        match content {
            Content::Text(text) | Content::Refusal(text) => text.text.len(),
            Content::Reasoning(reasoning) => reasoning.text.len(),
            Content::ToolCall(call) => call.arguments.len(),
            Content::ToolResult(result) => result.content.iter().map(bytes).sum(),
            _ => 0,
        }
    }
    let bytes: usize = request.messages.iter().flat_map(|message| &message.content).map(bytes).sum();
    (bytes / 4) as f64 + f64::from(request.max_tokens.unwrap_or_default())
}

/// A call that may be made.
struct Admission {
    _place: Option<OwnedSemaphorePermit>,
    tokens: Option<(Arc<Bucket>, f64)>,
}

impl Admission {
    /// Puts the estimate right: by what was used, or by nothing for a call that failed.
    fn settle(&mut self, usage: Option<&Usage>) {
        let said = usage.is_none_or(|usage| usage.input.is_some() || usage.output.is_some());
        if let Some((bucket, estimate)) = self.tokens.take()
            && said
        {
            bucket.give(estimate - usage.map_or(0, Usage::total) as f64);
        }
    }
}

struct Admitted {
    events: EventStream,
    /// Until the stream has ended.
    admission: Option<Admission>,
    usage: Option<Usage>,
}

impl Stream for Admitted {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = this.events.as_mut().poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(StreamEvent::Usage(usage)))) => this.usage = Some(usage.clone()),
            Poll::Ready(None | Some(Err(_))) => {
                if let Some(mut admission) = this.admission.take() {
                    admission.settle(this.usage.as_ref());
                }
            }
            Poll::Ready(Some(Ok(StreamEvent::End(_)))) => this.leave(),
            _ => {}
        }
        polled
    }
}

impl Admitted {
    /// Ends the call with what is known of its usage; where nothing is, the estimate stands.
    fn leave(&mut self) {
        if let Some(mut admission) = self.admission.take()
            && let Some(usage) = &self.usage
        {
            admission.settle(Some(usage));
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A token bucket: filled evenly, a minute's worth at most. Its level may be negative: then it is in debt.
#[derive(Debug)]
struct Bucket {
    capacity: f64,
    level: Mutex<(f64, Instant)>,
    /// Whose turn it is; the semaphore keeps the order.
    turn: Semaphore,
}

impl Bucket {
    fn new(per_minute: NonZeroU32) -> Self {
        let capacity = f64::from(per_minute.get());
        Self { capacity, level: Mutex::new((capacity, Instant::now())), turn: Semaphore::new(1) }
    }

    async fn take(&self, amount: f64) {
        let _turn = self.turn.acquire().await;
        while let Some(wait) = self.try_take(amount) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes `amount`, or says how long to wait for it.
    fn try_take(&self, amount: f64) -> Option<Duration> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let per_second = self.capacity / 60.0;
        let filled = level.0 + (now - level.1).as_secs_f64() * per_second;
        *level = (filled.min(self.capacity), now);
        // A millionth is rounding.
        let missing = amount - level.0;
        if missing > 1e-6 {
            return Some(Duration::from_secs_f64(missing / per_second).max(Duration::from_millis(1)));
        }
        level.0 -= amount;
        None
    }

    fn give(&self, amount: f64) {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).0 += amount;
    }
}
