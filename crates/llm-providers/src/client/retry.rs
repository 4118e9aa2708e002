//! Repeating calls that failed.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;

use super::jitter::Jitter;
use super::retry_budget::RetryBudget;
use super::retry_policy::RetryPolicy;
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::Request;
use crate::response::Response;
use crate::stream::ResponseStream;

/// Events that are held back at most, before a stream counts as begun.
const HELD: usize = 64;

/// Repeats the calls of a provider that failed, by a [`RetryPolicy`].
///
/// A stream is repeated until its first piece of content: the future of [`stream`](LlmProvider::stream) is done when that is there,
/// and what came before it (but signs of life) is given then. After it, an error is given as it is. What was repeated in vain is
/// [`Error::Exhausted`], which no layer above repeats; an error that needs no repeating is given unchanged.
///
/// [`available`](LlmProvider::available) is not repeated: that a server is not there is an answer.
///
/// Dropping a future or a stream drops the attempt and whatever wait there is.
#[derive(Debug)]
pub struct Retry<P> {
    inner: P,
    policy: RetryPolicy,
    budget: Arc<RetryBudget>,
    jitter: Jitter,
}

impl<P: LlmProvider> Retry<P> {
    /// Repeats by the rules of the provider's vendor, with a budget of its own.
    pub fn new(inner: P) -> Self {
        let policy = RetryPolicy::of_provider(inner.name());
        Self::with_policy(inner, policy, Arc::default())
    }

    /// Repeats by `policy`, drawing on `budget`.
    pub fn with_policy(inner: P, policy: RetryPolicy, budget: Arc<RetryBudget>) -> Self {
        let jitter = Jitter::new(policy.seed);
        Self { inner, policy, budget, jitter }
    }

    async fn repeat<T, F: Future<Output = Result<T>>>(&self, attempt: impl Fn() -> F) -> Result<T> {
        self.budget.deposit();
        let mut attempts = 0;
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            attempts += 1;
            if !error.is_retryable() || self.policy.max_retries == 0 {
                return Err(error);
            }
            let delay = (attempts <= self.policy.max_retries)
                .then(|| self.policy.delay(&error, attempts - 1, self.jitter.draw()))
                .flatten();
            // The budget is asked last: what is not repeated anyway must not take from it.
            let Some(delay) = delay.filter(|_| self.budget.withdraw()) else {
                tracing::debug!(attempt = attempts, error.type = error.kind(), "gave up");
                return Err(Error::Exhausted { attempts, last: Box::new(error) });
            };
            tracing::debug!(
                attempt = attempts,
                error.type = error.kind(),
                status = error.status(),
                delay_s = delay.as_secs_f64(),
                "will be repeated"
            );
            tokio::time::sleep(delay).await;
        }
    }
}

impl<P: LlmProvider> LlmProvider for Retry<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(self.repeat(move || self.inner.complete(request)))
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(self.repeat(move || async move { begun(self.name(), self.inner.stream(request).await?).await }))
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

/// The stream, once its first piece of content has come.
pub(super) async fn begun(provider: &str, stream: ResponseStream) -> Result<ResponseStream> {
    let mut events = stream.into_events();
    let mut head = Vec::new();
    loop {
        let missing = || Error::Incomplete { provider: provider.to_owned(), missing: "a first piece".to_owned() };
        match events.next().await.unwrap_or_else(|| Err(missing()))? {
            StreamEvent::Ping => {}
            event => {
                let begun = event.carries_content() || head.len() + 1 == HELD;
                head.push(Ok(event));
                if begun {
                    break;
                }
            }
        }
    }
    let events = futures_util::stream::iter(head).chain(events);
    Ok(ResponseStream::new(provider, Box::pin(events)))
}
