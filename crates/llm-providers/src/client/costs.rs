//! Counting money.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;

use super::prices::{Price, Prices};
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::Request;
use crate::response::{Response, Usage};
use crate::stream::{EventStream, ResponseStream};

/// Money spent, and perhaps a bound on it. Share one through an [`Arc`] to bound several clients together.
#[derive(Debug, Default)]
pub struct Budget {
    limit: Option<f64>,
    spent: Mutex<f64>,
}

impl Budget {
    /// A bound, in US dollars. Calls are refused once it is reached; those under way then may exceed it.
    pub fn new(limit_usd: f64) -> Self {
        Self { limit: Some(limit_usd), spent: Mutex::default() }
    }

    /// No bound: counts alone.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// The bound, in US dollars.
    pub fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// What has been spent, in US dollars.
    pub fn spent(&self) -> f64 {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self, dollars: f64) {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner) += dollars;
    }
}

/// Adds up what calls cost by a table of [`Prices`], and refuses further ones with [`Error::BudgetSpent`] once a [`Budget`] is spent.
///
/// A call costs what its usage says: where the vendor counts nothing (an attempt that failed, a stream that was dropped before its
/// usage came), nothing is known and nothing is added. A budget with a bound refuses models without a price, since it could not keep it.
#[derive(Debug)]
pub struct Costs<P> {
    inner: P,
    prices: Prices,
    budget: Arc<Budget>,
}

impl<P: LlmProvider> Costs<P> {
    /// Adds to `budget` by `prices`.
    pub fn new(inner: P, prices: Prices, budget: Arc<Budget>) -> Self {
        Self { inner, prices, budget }
    }

    /// The price of a call that may be made.
    fn admit(&self, request: &Request) -> Result<Option<Price>> {
        let price = self.prices.of(&request.model).copied();
        let Some(limit) = self.budget.limit else { return Ok(price) };
        if price.is_none() {
            return Err(Error::Configuration {
                setting: format!("price of {}", request.model),
                problem: "expected one, since there is a budget in US dollars".to_owned(),
            });
        }
        if limit.is_nan() || self.budget.spent() >= limit {
            return Err(Error::BudgetSpent { budget: format!("{limit} USD") });
        }
        Ok(price)
    }
}

impl<P: LlmProvider> LlmProvider for Costs<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let price = self.admit(request)?;
            let response = self.inner.complete(request).await?;
            let cost = price.and_then(|price| price.cost(&response.usage));
            self.budget.spend(cost.unwrap_or_default());
            Ok(response)
        })
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(async move {
            let Some(price) = self.admit(request)? else { return self.inner.stream(request).await };
            let events = self.inner.stream(request).await?.into_events();
            let counted = Counted { events, price, budget: self.budget.clone(), usage: Usage::default() };
            Ok(ResponseStream::new(self.name(), Box::pin(counted)))
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

/// Adds what a stream cost when it is dropped, whether it has ended or not.
struct Counted {
    events: EventStream,
    price: Price,
    budget: Arc<Budget>,
    usage: Usage,
}

impl Stream for Counted {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.events.as_mut().poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(StreamEvent::Usage(usage)))) => self.usage = usage.clone(),
            // Counted at once: a reader may hold on to a stream that has ended.
            Poll::Ready(Some(Ok(StreamEvent::End(_)) | Err(_)) | None) => self.count(),
            _ => {}
        }
        polled
    }
}

impl Counted {
    fn count(&mut self) {
        let usage = std::mem::take(&mut self.usage);
        self.budget.spend(self.price.cost(&usage).unwrap_or_default());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count();
    }
}
