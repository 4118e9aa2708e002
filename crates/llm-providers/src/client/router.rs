//! Several providers, one of which answers.

use std::borrow::Cow;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::prices::Prices;
use super::retry::begun;
use super::retry_budget::RetryBudget;
use crate::capabilities::Capabilities;
use crate::error::{ApiErrorKind, Error, Result};
use crate::event::StreamEvent;
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::Request;
use crate::response::{Response, Usage};
use crate::stream::{EventStream, ResponseStream};

/// The key of [`Response::metadata`] under which a [`Router`] says who answered, as `provider:model`.
pub const ANSWERED_BY: &str = "answered_by";

/// A provider and what to ask it for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Candidate {
    /// Who.
    pub provider: Arc<dyn LlmProvider>,
    /// Which model; `None`: the request's.
    pub model: Option<String>,
}

impl Candidate {
    /// A provider that is asked for the request's model.
    pub fn new(provider: impl LlmProvider) -> Self {
        Self { provider: Arc::new(provider), model: None }
    }

    /// With a model of its own.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    fn request<'a>(&self, request: &'a Request) -> Cow<'a, Request> {
        match &self.model {
            Some(model) if *model != request.model => {
                let mut request = request.clone();
                request.model.clone_from(model);
                Cow::Owned(request)
            }
            _ => Cow::Borrowed(request),
        }
    }
}

/// Chooses who is asked first, and learns from what came of it. Open to implementations elsewhere.
///
/// Calls come from several threads at once, and what is learned may come in another order than what was chosen. Neither may block.
pub trait Choose: Debug + Send + Sync + 'static {
    /// The place of the candidate to ask. There is at least one; a place beyond the last is the last.
    fn choose(&self, request: &Request, candidates: &[Candidate]) -> usize;

    /// What came of asking a candidate, chosen or fallen back to. Not called for calls that were dropped.
    fn learn(&self, chosen: usize, outcome: &Outcome<'_>) {
        let _ = (chosen, outcome);
    }
}

/// What came of asking a candidate.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// From the call to the answer's end, or the error.
    pub latency: Duration,
    /// From the call to the first piece of content, for streams.
    pub first_chunk: Option<Duration>,
    /// Tokens, as far as the vendor counted.
    pub usage: &'a Usage,
    /// What it cost, in US dollars, where a price is known.
    pub cost: Option<f64>,
    /// What went wrong, if something did.
    pub error: Option<&'a Error>,
}

/// Always the first: [`Fallback`]'s choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct First;

impl Choose for First {
    fn choose(&self, _: &Request, _: &[Candidate]) -> usize {
        0
    }
}

/// Asks several providers in their order, until one answers.
pub type Fallback = Router<First>;

/// Asks the provider that [`Choose`] chooses; where that one fails in a way in which another need not (see [`falls_back`]), the others
/// in their order.
///
/// A stream falls back until its first piece of content, never after. Each further candidate takes one from the [`RetryBudget`], which
/// is best shared with the [`Retry`](super::Retry) around each candidate. An error after more than one candidate is
/// [`Error::Exhausted`]. Who answered is in [`Response::metadata`] under [`ANSWERED_BY`].
#[derive(Debug)]
pub struct Router<C> {
    candidates: Vec<Candidate>,
    choose: Arc<C>,
    prices: Arc<Prices>,
    budget: Arc<RetryBudget>,
    name: String,
}

impl Router<First> {
    /// Asks candidates in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] without candidates.
    pub fn in_order(candidates: impl IntoIterator<Item = Candidate>) -> Result<Self> {
        Self::new(candidates, First)
    }
}

impl<C: Choose> Router<C> {
    /// Asks the candidate that `choose` chooses.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] without candidates.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>, choose: C) -> Result<Self> {
        let candidates: Vec<_> = candidates.into_iter().collect();
        let Some(first) = candidates.first() else {
            let problem = "expected one at least, came none".to_owned();
            return Err(Error::Configuration { setting: "candidates".to_owned(), problem });
        };
        let one = candidates.iter().all(|other| other.provider.name() == first.provider.name());
        let name = if one { first.provider.name() } else { "router" }.to_owned();
        Ok(Self { candidates, choose: Arc::new(choose), prices: Arc::default(), budget: Arc::default(), name })
    }

    /// With a budget that retries draw on as well.
    #[must_use]
    pub fn with_retry_budget(mut self, budget: Arc<RetryBudget>) -> Self {
        self.budget = budget;
        self
    }

    /// With prices, so that [`Outcome::cost`] is known.
    #[must_use]
    pub fn with_prices(mut self, prices: Prices) -> Self {
        self.prices = Arc::new(prices);
        self
    }

    /// What chooses.
    pub fn choice(&self) -> &C {
        &self.choose
    }

    async fn route<'a, T, F: Future<Output = Result<T>>>(
        &'a self,
        request: &'a Request,
        ask: impl Fn(usize, Cow<'a, Request>) -> F,
    ) -> Result<T> {
        self.budget.deposit();
        let first = self.choose.choose(request, &self.candidates).min(self.candidates.len() - 1);
        let mut others = (0..self.candidates.len()).filter(|place| *place != first);
        let mut place = first;
        let mut attempts = 0;
        loop {
            let candidate = &self.candidates[place];
            let model = candidate.model.as_deref().unwrap_or(&request.model);
            let begin = Instant::now();
            let error = match ask(place, candidate.request(request)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            attempts += 1;
            self.learn(place, model, begin, None, &Usage::default(), Some(&error));
            let next = others.next().filter(|_| falls_back(&error) && self.budget.withdraw());
            let Some(next) = next else {
                return Err(match attempts {
                    1 => error,
                    attempts => Error::Exhausted { attempts, last: Box::new(error) },
                });
            };
            let provider = candidate.provider.name();
            tracing::warn!(provider, model, error.type = error.kind(), "another provider is asked");
            place = next;
        }
    }

    fn learn(
        &self,
        place: usize,
        model: &str,
        begin: Instant,
        first_chunk: Option<Duration>,
        usage: &Usage,
        error: Option<&Error>,
    ) {
        let cost = self.prices.of(model).and_then(|price| price.cost(usage));
        self.choose.learn(place, &Outcome { latency: begin.elapsed(), first_chunk, usage, cost, error });
    }

    fn answered_by(&self, place: usize, model: &str) -> Map<String, Value> {
        let who = format!("{}:{model}", self.candidates[place].provider.name());
        Map::from_iter([(ANSWERED_BY.to_owned(), Value::from(who))])
    }
}

/// Whether another provider may answer where this error came: when a server cannot be reached, is too slow or overloaded, sends
/// nonsense or fails, when the key, the quota or the model is the trouble, when the context is too long or a feature is missing. Not when
/// the request is wrong, nor when its content was refused: asking around for somebody who says yes is the caller's decision.
pub fn falls_back(error: &Error) -> bool {
    match error {
        Error::Api(error) => {
            !matches!(error.kind, ApiErrorKind::InvalidRequest | ApiErrorKind::ContentPolicy | ApiErrorKind::Other)
        }
        Error::Connect { .. }
        | Error::Transport { .. }
        | Error::Timeout { .. }
        | Error::Decode { .. }
        | Error::Incomplete { .. }
        | Error::Unsupported { .. } => true,
        Error::Exhausted { last, .. } => falls_back(last),
        Error::Shared(error) => falls_back(error),
        _ => false,
    }
}

impl<C: Choose> LlmProvider for Router<C> {
    /// The name that all candidates have, or `router`.
    fn name(&self) -> &str {
        &self.name
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(self.route(request, move |place, asked| async move {
            let begin = Instant::now();
            let mut response = self.candidates[place].provider.complete(&asked).await?;
            self.learn(place, &asked.model, begin, None, &response.usage, None);
            response.metadata.extend(self.answered_by(place, &asked.model));
            Ok(response)
        }))
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(self.route(request, move |place, asked| async move {
            let begin = Instant::now();
            let provider = &self.candidates[place].provider;
            let stream = begun(provider.name(), provider.stream(&asked).await?).await?;
            let events = Routed {
                events: stream.into_events(),
                answered_by: Some(self.answered_by(place, &asked.model)),
                given: false,
                choose: self.choose.clone(),
                prices: self.prices.clone(),
                place,
                model: asked.model.clone(),
                begin,
                first_chunk: begin.elapsed(),
                usage: Usage::default(),
            };
            Ok(ResponseStream::new(provider.name(), Box::pin(events)))
        }))
    }

    /// Of the first candidate that is there.
    fn available(&self) -> BoxFuture<'_, Result<Availability>> {
        Box::pin(async move {
            let mut answer = self.candidates[0].provider.available().await;
            for other in &self.candidates[1..] {
                if answer.is_ok() {
                    break;
                }
                answer = other.provider.available().await;
            }
            answer
        })
    }

    /// What all candidates can do.
    fn capabilities(&self) -> Capabilities {
        let has = |feature| self.candidates.iter().all(|candidate| candidate.provider.capabilities().has(feature));
        Capabilities::all().features().filter(|feature| has(*feature)).fold(Capabilities::NONE, Capabilities::with)
    }
}

/// A stream that says who answers, and from whose end is learned.
struct Routed<C> {
    events: EventStream,
    /// Until it has been said.
    answered_by: Option<Map<String, Value>>,
    /// Whether an event has been given.
    given: bool,
    choose: Arc<C>,
    prices: Arc<Prices>,
    place: usize,
    model: String,
    begin: Instant,
    first_chunk: Duration,
    usage: Usage,
}

impl<C: Choose> Routed<C> {
    fn learn(&self, error: Option<&Error>) {
        let cost = self.prices.of(&self.model).and_then(|price| price.cost(&self.usage));
        let (latency, first_chunk) = (self.begin.elapsed(), Some(self.first_chunk));
        self.choose.learn(self.place, &Outcome { latency, first_chunk, usage: &self.usage, cost, error });
    }
}

impl<C: Choose> Stream for Routed<C> {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // The head of the answer comes first.
        if this.given
            && let Some(answered_by) = this.answered_by.take()
        {
            return Poll::Ready(Some(Ok(StreamEvent::Metadata(answered_by))));
        }
        let polled = this.events.as_mut().poll_next(context);
        this.given |= polled.is_ready();
        match &polled {
            Poll::Ready(Some(Ok(StreamEvent::Usage(usage)))) => this.usage = usage.clone(),
            Poll::Ready(Some(Ok(StreamEvent::End(_)))) => this.learn(None),
            Poll::Ready(Some(Err(error))) => this.learn(Some(error)),
            _ => {}
        }
        polled
    }
}
