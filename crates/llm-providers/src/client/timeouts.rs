//! Deadlines.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Sleep};

use super::seconds;
use crate::capabilities::Capabilities;
use crate::error::{Deadline, Error, Result};
use crate::event::StreamEvent;
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::Request;
use crate::response::Response;
use crate::stream::{EventStream, ResponseStream};

/// How long is waited for what; in files in seconds, `inf` for without end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// For a connection; the transport keeps it. Default: 5 s, as in the clients of OpenAI and Anthropic.
    #[serde(rename = "connect_s", with = "seconds::optional")]
    pub connect: Option<Duration>,
    /// For the first piece of content of a stream, from the call on; signs of life and the head of an answer do not count. Default:
    /// 300 s: models that reason unseen send nothing for minutes, and Ollama takes up to five minutes to load a model.
    #[serde(rename = "first_chunk_s", with = "seconds::optional")]
    pub first_chunk: Option<Duration>,
    /// For each next event of a stream after that, signs of life included, as long as the reader waits for it. Default: 120 s: a
    /// model may reason unseen between two blocks, and too short a bound fails good answers.
    #[serde(rename = "idle_s", with = "seconds::optional")]
    pub idle: Option<Duration>,
    /// For an answer that comes at once. Default: 600 s, as in the clients of OpenAI and Anthropic.
    #[serde(rename = "total_s", with = "seconds::optional")]
    pub total: Option<Duration>,
    /// For a stream as a whole. Default: none, so that a long answer that goes on is not cut.
    #[serde(rename = "stream_total_s", with = "seconds::optional")]
    pub stream_total: Option<Duration>,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(5)),
            first_chunk: Some(Duration::from_secs(300)),
            idle: Some(Duration::from_secs(120)),
            total: Some(Duration::from_secs(600)),
            stream_total: None,
        }
    }
}

impl TimeoutConfig {
    /// No deadline at all.
    pub fn none() -> Self {
        Self { connect: None, first_chunk: None, idle: None, total: None, stream_total: None }
    }

    /// With a deadline for a stream's first piece of content.
    #[must_use]
    pub fn with_first_chunk(mut self, first_chunk: Duration) -> Self {
        self.first_chunk = Some(first_chunk);
        self
    }

    /// With a deadline for each next event.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// With a deadline for an answer that comes at once.
    #[must_use]
    pub fn with_total(mut self, total: Duration) -> Self {
        self.total = Some(total);
        self
    }

    /// With a deadline for streams as a whole.
    #[must_use]
    pub fn with_stream_total(mut self, stream_total: Duration) -> Self {
        self.stream_total = Some(stream_total);
        self
    }
}

/// Ends calls that take too long with [`Error::Timeout`]; what was waited for is dropped, and with it the request.
///
/// The clock is tokio's: calls run inside of a runtime of tokio with its time enabled.
#[derive(Debug)]
pub struct Timeouts<P> {
    inner: P,
    config: TimeoutConfig,
}

impl<P: LlmProvider> Timeouts<P> {
    /// With these deadlines (but that for connections, which is the transport's).
    pub fn new(inner: P, config: TimeoutConfig) -> Self {
        Self { inner, config }
    }
}

impl<P: LlmProvider> LlmProvider for Timeouts<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(within(Deadline::Total, self.config.total, self.inner.complete(request)))
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(async move {
            let start = Instant::now();
            let TimeoutConfig { first_chunk, idle, stream_total, .. } = self.config;
            let opened = within(Deadline::FirstChunk, first_chunk, self.inner.stream(request));
            let events = within(Deadline::Total, stream_total, opened).await?.into_events();
            let sleep_until = |after| Box::pin(tokio::time::sleep_until(start + after));
            let events = Deadlines {
                events,
                first_chunk: first_chunk.map(|after| (sleep_until(after), after)),
                idle: idle.map(|after| (sleep_until(after), after)),
                total: stream_total.map(|after| (sleep_until(after), after)),
                waiting: false,
            };
            Ok(ResponseStream::new(self.name(), Box::pin(events)))
        })
    }

    fn available(&self) -> BoxFuture<'_, Result<Availability>> {
        Box::pin(within(Deadline::Total, self.config.total, self.inner.available()))
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn server(&self) -> Option<(&str, u16)> {
        self.inner.server()
    }
}

async fn within<T>(deadline: Deadline, after: Option<Duration>, future: impl Future<Output = Result<T>>) -> Result<T> {
    match after {
        None => future.await,
        Some(after) => tokio::time::timeout(after, future).await.unwrap_or(Err(Error::Timeout { deadline, after })),
    }
}

/// When it rings, and how long that was.
type Alarm = (Pin<Box<Sleep>>, Duration);

struct Deadlines {
    events: EventStream,
    /// Until the first piece of content.
    first_chunk: Option<Alarm>,
    idle: Option<Alarm>,
    total: Option<Alarm>,
    /// The reader has asked and got nothing yet: `idle` runs.
    waiting: bool,
}

impl Deadlines {
    fn expired(&mut self, context: &mut Context<'_>) -> Option<Error> {
        let alarms = [
            (Deadline::Total, self.total.as_mut()),
            (Deadline::FirstChunk, self.first_chunk.as_mut()),
            (Deadline::Idle, self.idle.as_mut().filter(|_| self.waiting)),
        ];
        alarms.into_iter().find_map(|(deadline, alarm)| {
            let (sleep, after) = alarm?;
            sleep.as_mut().poll(context).is_ready().then_some(Error::Timeout { deadline, after: *after })
        })
    }
}

impl Stream for Deadlines {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = this.events.as_mut().poll_next(context);
        if let Poll::Ready(Some(Ok(event))) = &polled
            && event.carries_content()
        {
            this.first_chunk = None;
        }
        if polled.is_pending()
            && !this.waiting
            && this.first_chunk.is_none()
            && let Some((sleep, after)) = &mut this.idle
        {
            sleep.as_mut().reset(Instant::now() + *after);
        }
        this.waiting = polled.is_pending() && this.first_chunk.is_none();
        // What ends the stream by itself is given even where a deadline passes in the same moment.
        if matches!(&polled, Poll::Ready(None | Some(Err(_) | Ok(StreamEvent::End(_))))) {
            return polled;
        }
        let Some(error) = this.expired(context) else { return polled };
        this.events = Box::pin(futures_util::stream::empty());
        Poll::Ready(Some(Err(error)))
    }
}
