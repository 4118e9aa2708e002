//! A provider that does what a test says, when it says.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use llm_providers::{
    ApiError, Availability, BlockStart, BoxFuture, Capabilities, Error, EventStream, LlmProvider, Message, Request,
    Response, ResponseStream, Result, Stop, StopReason, StreamEvent, Usage,
};

/// What a call does: how long until its head comes, and the events with the time before each. An error as the first piece, with
/// `headless`, fails the call itself.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) head: Duration,
    pub(crate) headless: bool,
    pub(crate) pieces: Vec<(Duration, Result<StreamEvent>)>,
}

impl Step {
    /// An answer in one piece.
    pub(crate) fn answer(text: &str) -> Self {
        Self::events(answer_events(text))
    }

    pub(crate) fn events(events: impl IntoIterator<Item = StreamEvent>) -> Self {
        Self { pieces: events.into_iter().map(|event| (Duration::ZERO, Ok(event))).collect(), ..Self::default() }
    }

    /// Fails before a head comes.
    pub(crate) fn fail(error: impl Into<Error>) -> Self {
        Self { headless: true, pieces: vec![(Duration::ZERO, Err(error.into()))], ..Self::default() }
    }

    pub(crate) fn after(mut self, head: Duration) -> Self {
        self.head = head;
        self
    }

    /// With an error after `n` events.
    pub(crate) fn broken_at(mut self, n: usize, error: impl Into<Error>) -> Self {
        self.pieces.truncate(n);
        self.pieces.push((Duration::ZERO, Err(error.into())));
        self
    }
}

pub(crate) fn start() -> StreamEvent {
    StreamEvent::Start { id: "id-1".to_owned(), model: "model-1".to_owned() }
}

pub(crate) fn block() -> StreamEvent {
    StreamEvent::BlockStart { index: 0, block: BlockStart::Text }
}

pub(crate) fn delta(text: &str) -> StreamEvent {
    StreamEvent::BlockDelta { index: 0, delta: text.to_owned() }
}

pub(crate) fn end() -> StreamEvent {
    StreamEvent::End(Stop { reason: StopReason::Stop, raw: Some("stop".to_owned()) })
}

pub(crate) fn usage(input: u64, output: u64) -> Usage {
    let mut usage = Usage::default();
    (usage.input, usage.output) = (Some(input), Some(output));
    usage
}

pub(crate) fn answer_events(text: &str) -> Vec<StreamEvent> {
    let close = StreamEvent::BlockEnd { index: 0, opaque: None };
    vec![start(), block(), delta(text), close, StreamEvent::Usage(usage(10, 5)), end()]
}

pub(crate) fn status(status: u16) -> Error {
    ApiError::new("script", status, "scripted").into()
}

pub(crate) fn request() -> Request {
    Request::new("model-1", [Message::user("a question")])
}

type Play = dyn FnMut(usize, &Request) -> Step + Send;

/// Plays `Step`s by the number of the call, from 0. Clones share everything.
#[derive(Clone)]
pub(crate) struct Script {
    name: String,
    play: Arc<Mutex<Play>>,
    calls: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    most_open: Arc<AtomicUsize>,
}

impl Script {
    pub(crate) fn new(play: impl FnMut(usize, &Request) -> Step + Send + 'static) -> Self {
        Self::named("script", play)
    }

    pub(crate) fn named(name: &str, play: impl FnMut(usize, &Request) -> Step + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            play: Arc::new(Mutex::new(play)),
            calls: Arc::default(),
            open: Arc::default(),
            most_open: Arc::default(),
        }
    }

    /// How many calls came.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many calls are going on.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// How many calls went on at the same time at most.
    pub(crate) fn most_open(&self) -> usize {
        self.most_open.load(Ordering::SeqCst)
    }
}

/// Counts a call that goes on.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Played(EventStream, #[expect(dead_code, reason = "counts down when it is dropped")] Open);

impl Stream for Played {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl LlmProvider for Script {
    fn name(&self) -> &str {
        &self.name
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let mut stream = self.stream(request).await?;
            while let Some(event) = stream.next().await {
                event?;
            }
            stream.response().await
        })
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(async move {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            let now = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_open.fetch_max(now, Ordering::SeqCst);
            let open = Open(self.open.clone());
            let step = (self.play.lock().unwrap())(call, request);
            if !step.head.is_zero() {
                tokio::time::sleep(step.head).await;
            }
            let mut pieces = step.pieces;
            if step.headless {
                return Err(pieces.remove(0).1.unwrap_err());
            }
            let events = futures_util::stream::iter(pieces).then(|(after, event)| async move {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                event
            });
            Ok(ResponseStream::new(self.name(), Box::pin(Played(Box::pin(events), open))))
        })
    }

    fn available(&self) -> BoxFuture<'_, Result<Availability>> {
        Box::pin(async { Ok(Availability::new(vec!["model-1".to_owned()])) })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn server(&self) -> Option<(&str, u16)> {
        Some(("script.example", 8443))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Runs a future on a runtime whose clock goes on by itself when everything waits.
pub(crate) fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}
