//! An answer as it comes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::StreamExt;

use crate::error::{Error, Result};
use crate::event::{BlockStart, StreamEvent};
use crate::response::Response;

/// Events without what has been gathered from them.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<StreamEvent>> + Send>>;

/// An answer as it comes, and what has come so far.
///
/// Nothing is read from the connection before it is asked for, so a slow reader slows the server down instead of filling memory.
/// Dropping it closes the connection. A stream that ends before its [`StreamEvent::End`] gives [`Error::Incomplete`].
pub struct ResponseStream {
    provider: String,
    events: EventStream,
    so_far: Response,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Open,
    /// The answer is whole.
    Whole,
    /// An error was given.
    Broken,
}

impl ResponseStream {
    /// The events of `provider`.
    pub fn new(provider: impl Into<String>, events: EventStream) -> Self {
        Self { provider: provider.into(), events, so_far: Response::default(), state: State::Open }
    }

    /// What has been said by now, also after an error: its stop reason is `Incomplete` until the answer is whole.
    pub fn so_far(&self) -> &Response {
        &self.so_far
    }

    /// Reads to the end and gives the whole answer.
    ///
    /// # Errors
    ///
    /// The stream's own, and [`Error::Incomplete`] where an error was given before.
    pub async fn response(mut self) -> Result<Response> {
        while let Some(event) = self.next().await {
            event?;
        }
        match self.state {
            State::Whole => Ok(self.so_far),
            State::Open | State::Broken => Err(self.incomplete()),
        }
    }

    /// The text alone, piece by piece. Other blocks are left out.
    pub fn text(self) -> impl Stream<Item = Result<String>> + Send {
        let mut texts = Vec::new();
        self.filter_map(move |event| {
            let piece = match event {
                Ok(StreamEvent::BlockStart { index, block: BlockStart::Text }) => {
                    texts.push(index);
                    None
                }
                Ok(StreamEvent::BlockDelta { index, delta }) if texts.contains(&index) => Some(Ok(delta)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            };
            std::future::ready(piece)
        })
    }

    /// The same answer with its events passed through `wrap`. What has been gathered so far stays.
    #[must_use]
    pub fn map_events(self, wrap: impl FnOnce(EventStream) -> EventStream) -> Self {
        Self { events: wrap(self.events), ..self }
    }

    /// The events alone, from where reading stands, without gathering them: what a wrapper that looks at events wants. Whoever reads
    /// them sees to it that they end with [`StreamEvent::End`]; a `ResponseStream` made of them does.
    pub fn into_events(self) -> EventStream {
        self.events
    }

    fn incomplete(&self) -> Error {
        Error::Incomplete { provider: self.provider.clone(), missing: "its end".to_owned() }
    }
}

impl Stream for ResponseStream {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.state != State::Open {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.as_mut().poll_next(context)).unwrap_or_else(|| Err(self.incomplete()));
        match &event {
            Ok(event) => {
                self.so_far.take(event);
                if matches!(event, StreamEvent::End(_)) {
                    self.state = State::Whole;
                }
            }
            Err(_) => self.state = State::Broken,
        }
        Poll::Ready(Some(event))
    }
}

impl fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStream")
            .field("provider", &self.provider)
            .field("so_far", &self.so_far)
            .finish_non_exhaustive()
    }
}
