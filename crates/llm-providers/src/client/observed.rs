//! A trace and metrics of every call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::histogram::Histogram;
use super::metrics::{Attributes, Metric, Metrics};
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::{OutputFormat, Request};
use crate::response::{Response, Stop, Usage};
use crate::stream::{EventStream, ResponseStream};

/// Makes one `tracing` span of every call, with the attributes of OpenTelemetry's conventions for generative AI, and counts it in
/// [`Metrics`]. Stands outside of [`Retry`](super::Retry): the attempts of a call are events in its span.
///
/// Names of `tracing` spans are fixed, so the convention's name, `{operation} {model}`, is in `otel.name`, where bridges to
/// OpenTelemetry look for it. Neither prompts nor answers are recorded, nor are stop texts (`gen_ai.request.stop_sequences`), which are
/// the user's words as well. A call that is dropped before its end has the `error.type` `cancelled`.
#[derive(Debug)]
pub struct Observed<P> {
    inner: P,
    metrics: Arc<Metrics>,
}

impl<P: LlmProvider> Observed<P> {
    /// Counts in `metrics`.
    pub fn new(inner: P, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    fn call(&self, request: &Request, stream: bool) -> Call {
        let provider = self.inner.name();
        let operation = if provider == "gcp.gemini" { "generate_content" } else { "chat" };
        let server = self.inner.server();
        let span = tracing::info_span!(
            "gen_ai.client.operation",
            otel.name = format!("{operation} {}", request.model),
            otel.kind = "client",
            otel.status_code = Empty,
            error.type = Empty,
            gen_ai.operation.name = operation,
            gen_ai.provider.name = provider,
            gen_ai.request.model = request.model,
            gen_ai.request.stream = stream,
            gen_ai.request.temperature = request.temperature,
            gen_ai.request.top_p = request.top_p,
            gen_ai.request.top_k = request.top_k,
            gen_ai.request.max_tokens = request.max_tokens,
            gen_ai.request.seed = request.seed,
            gen_ai.request.frequency_penalty = request.frequency_penalty,
            gen_ai.request.presence_penalty = request.presence_penalty,
            gen_ai.output.type = if request.output == OutputFormat::Text { "text" } else { "json" },
            gen_ai.response.id = Empty,
            gen_ai.response.model = Empty,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.response.time_to_first_chunk = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            gen_ai.usage.cache_read.input_tokens = Empty,
            gen_ai.usage.cache_creation.input_tokens = Empty,
            gen_ai.usage.reasoning.output_tokens = Empty,
            server.address = server.map(|(host, _)| host),
            server.port = server.map(|(_, port)| port),
        );
        Call {
            span,
            metrics: self.metrics.clone(),
            attributes: Attributes {
                operation,
                provider: provider.to_owned(),
                request_model: request.model.clone(),
                response_model: None,
                server: server.map(|(host, port)| (host.to_owned(), port)),
                token_type: None,
                error_type: None,
            },
            begin: Instant::now(),
            begun: false,
            last_delta: None,
            per_chunk: Histogram::new(Metric::TimePerOutputChunk.boundaries()),
            usage: Usage::default(),
            ended: false,
        }
    }
}

impl<P: LlmProvider> LlmProvider for Observed<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        let mut call = self.call(request, false);
        Box::pin(async move {
            let answer = self.inner.complete(request).instrument(call.span.clone()).await;
            match &answer {
                Ok(response) => {
                    call.answers(&response.id, &response.model);
                    call.usage = response.usage.clone();
                    call.stops(&response.stop);
                }
                Err(error) => call.fails(error),
            }
            answer
        })
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        let mut call = self.call(request, true);
        Box::pin(async move {
            match self.inner.stream(request).instrument(call.span.clone()).await {
                Ok(stream) => {
                    let events = Watched { events: stream.into_events(), call };
                    Ok(ResponseStream::new(self.name(), Box::pin(events)))
                }
                Err(error) => {
                    call.fails(&error);
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

/// What is known of a call that goes on. Everything is recorded once, when it ends.
struct Call {
    span: Span,
    metrics: Arc<Metrics>,
    attributes: Attributes,
    begin: Instant,
    /// Whether a piece of content has come.
    begun: bool,
    last_delta: Option<Instant>,
    per_chunk: Histogram,
    usage: Usage,
    ended: bool,
}

impl Call {
    fn answers(&mut self, id: &str, model: &str) {
        if !id.is_empty() {
            self.span.record("gen_ai.response.id", id);
        }
        if !model.is_empty() {
            self.span.record("gen_ai.response.model", model);
            self.attributes.response_model = Some(model.to_owned());
        }
    }

    fn takes(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Start { id, model } => self.answers(id, model),
            StreamEvent::Usage(usage) => self.usage = usage.clone(),
            StreamEvent::End(stop) => self.stops(stop),
            event if event.carries_content() => self.chunk(matches!(event, StreamEvent::BlockDelta { .. })),
            _ => {}
        }
    }

    /// A piece of content comes. The time between pieces is that between deltas: what starts and ends a block comes with one of them.
    fn chunk(&mut self, is_delta: bool) {
        let now = Instant::now();
        if !std::mem::replace(&mut self.begun, true) {
            let seconds = (now - self.begin).as_secs_f64();
            self.span.record("gen_ai.response.time_to_first_chunk", seconds);
            self.metrics.record(Metric::TimeToFirstChunk, &self.attributes, seconds);
        }
        if is_delta && let Some(last) = self.last_delta.replace(now) {
            let seconds = (now - last).as_secs_f64();
            self.per_chunk.record(seconds);
            self.metrics.export(Metric::TimePerOutputChunk, &self.attributes, seconds);
        }
    }

    fn stops(&mut self, stop: &Stop) {
        let reason = match &stop.raw {
            Some(raw) => raw.clone(),
            None => format!("{:?}", stop.reason).to_lowercase(),
        };
        self.span.record("gen_ai.response.finish_reasons", tracing::field::debug([reason]));
        self.end();
    }

    fn fails(&mut self, error: &Error) {
        self.attributes.error_type = Some(error.kind());
        self.end();
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let seconds = self.begin.elapsed().as_secs_f64();
        if let Some(error_type) = self.attributes.error_type {
            self.span.record("error.type", error_type);
            self.span.record("otel.status_code", "ERROR");
        }
        self.metrics.record(Metric::Duration, &self.attributes, seconds);
        self.attributes.error_type = None;
        if self.per_chunk.count() > 0 {
            self.metrics.add(Metric::TimePerOutputChunk, &self.attributes, &self.per_chunk);
        }
        let usage = &self.usage;
        for (name, tokens) in [
            ("gen_ai.usage.input_tokens", usage.input),
            ("gen_ai.usage.output_tokens", usage.output),
            ("gen_ai.usage.cache_read.input_tokens", usage.cached_input),
            ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
        ] {
            self.span.record(name, tokens);
        }
        for (token_type, tokens) in [("input", usage.input), ("output", usage.output)] {
            if let Some(tokens) = tokens {
                self.attributes.token_type = Some(token_type);
                self.metrics.record(Metric::TokenUsage, &self.attributes, tokens as f64);
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.attributes.error_type = Some("cancelled");
            self.end();
        }
    }
}

struct Watched {
    events: EventStream,
    call: Call,
}

impl Stream for Watched {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = this.call.span.in_scope(|| this.events.as_mut().poll_next(context));
        match &polled {
            Poll::Ready(Some(Ok(event))) => this.call.takes(event),
            Poll::Ready(Some(Err(error))) => this.call.fails(error),
            Poll::Ready(None) if !this.call.ended => {
                this.call.attributes.error_type = Some("incomplete");
                this.call.end();
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }
}
