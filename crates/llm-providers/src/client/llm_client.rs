//! All wrappers around a provider, in the right order.

use std::borrow::Cow;
use std::sync::Arc;

use super::cache::Cache;
use super::config::ResolvedConfig;
use super::costs::{Budget, Costs};
use super::limits::{LimitConfig, Limits};
use super::metrics::Metrics;
use super::observed::Observed;
use super::prices::Prices;
use super::response_cache::ResponseCache;
use super::retry::Retry;
use super::retry_budget::RetryBudget;
use super::retry_policy::RetryPolicy;
use super::timeouts::{TimeoutConfig, Timeouts};
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::provider::{Availability, BoxFuture, LlmProvider};
use crate::request::Request;
use crate::response::Response;
use crate::stream::ResponseStream;

/// A provider with everything around it. Cheap to clone; clones share all of it.
///
/// ```
/// use llm_providers::client::{LlmClient, RetryPolicy};
/// use llm_providers::{ApiError, LlmProviderExt, MemoryProvider, Reply};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
/// # runtime.block_on(async {
/// let busy = ApiError::new("memory", 503, "busy");
/// let provider = MemoryProvider::scripted([Reply::error(busy.into()), Reply::text("42")]);
/// let client = LlmClient::builder().provider(provider).retry(RetryPolicy::openai()).model("m").build()?;
/// assert_eq!(client.ask("", "What is 17 + 25?").await?, "42");
/// # Ok::<(), llm_providers::Error>(())
/// # })?;
/// # Ok::<(), llm_providers::Error>(())
/// ```
///
/// From the outside to the provider, and why there:
///
/// 1. [`Cache`], where there is one: what it answers is neither a call nor a cost.
/// 2. [`Observed`]: one span and one set of metrics for a call, its retries included.
/// 3. [`Costs`]: what is counted is what the caller got; a spent budget is no failure of the server.
/// 4. [`Retry`]
/// 5. [`Limits`]: every attempt counts, and none holds a place while it waits for the next.
/// 6. [`Timeouts`]: waiting for a place is not the server's fault, and every attempt has its deadlines.
/// 7. The provider.
#[derive(Debug, Clone)]
pub struct LlmClient {
    layers: Arc<dyn LlmProvider>,
    model: Option<String>,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    retry_budget: Arc<RetryBudget>,
    cache: Option<Arc<ResponseCache>>,
}

impl LlmClient {
    /// A client to be put together.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// What calls have cost, in US dollars, by the prices that were given.
    pub fn total_cost(&self) -> f64 {
        self.budget.spent()
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The budget of retries, to be shared with a [`Fallback`](super::Fallback) around several clients.
    pub fn retry_budget(&self) -> &Arc<RetryBudget> {
        &self.retry_budget
    }

    /// The cache, where there is one.
    pub fn cache(&self) -> Option<&ResponseCache> {
        self.cache.as_deref()
    }

    /// The model of requests that name none.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn request<'a>(&self, request: &'a Request) -> Result<Cow<'a, Request>> {
        match &self.model {
            _ if !request.model.is_empty() => Ok(Cow::Borrowed(request)),
            Some(model) => {
                let mut request = request.clone();
                request.model.clone_from(model);
                Ok(Cow::Owned(request))
            }
            None => Err(Error::InvalidRequest {
                provider: self.name().to_owned(),
                problem: "expected a model in the request or the client, came none".to_owned(),
            }),
        }
    }
}

impl LlmProvider for LlmClient {
    fn name(&self) -> &str {
        self.layers.name()
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        match self.request(request) {
            Ok(Cow::Borrowed(request)) => self.layers.complete(request),
            request => Box::pin(async move { self.layers.complete(&*request?).await }),
        }
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        match self.request(request) {
            Ok(Cow::Borrowed(request)) => self.layers.stream(request),
            request => Box::pin(async move { self.layers.stream(&*request?).await }),
        }
    }

    fn available(&self) -> BoxFuture<'_, Result<Availability>> {
        self.layers.available()
    }

    fn capabilities(&self) -> Capabilities {
        self.layers.capabilities()
    }

    fn server(&self) -> Option<(&str, u16)> {
        self.layers.server()
    }
}

/// Puts an [`LlmClient`] together.
#[derive(Debug, Default)]
pub struct ClientBuilder {
    provider: Option<Arc<dyn LlmProvider>>,
    model: Option<String>,
    timeouts: TimeoutConfig,
    retry: Option<RetryPolicy>,
    retry_budget: Arc<RetryBudget>,
    limits: LimitConfig,
    cache: Option<Arc<ResponseCache>>,
    prices: Prices,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

impl ClientBuilder {
    /// Around this provider.
    #[must_use]
    pub fn provider(mut self, provider: impl LlmProvider) -> Self {
        self.provider = Some(Arc::new(provider));
        self
    }

    /// With everything that settings say but the provider and its key.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] where the cache's folder cannot be made.
    pub fn config(mut self, config: &ResolvedConfig) -> Result<Self> {
        self.model.clone_from(&config.target.model);
        self.timeouts = config.timeouts.clone();
        self.retry.clone_from(&config.retry);
        self.limits = config.limits.clone();
        self.cache = match &config.cache {
            Some(cache) => Some(Arc::new(ResponseCache::new(cache.clone())?)),
            None => None,
        };
        self.prices = config.prices.clone();
        self.budget = Arc::new(config.budget_usd.map_or_else(Budget::unlimited, Budget::new));
        Ok(self)
    }

    /// With a model for requests that name none.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// With other deadlines than the default ones.
    #[must_use]
    pub fn timeouts(mut self, timeouts: TimeoutConfig) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// With other rules of retries than the vendor's.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// With a budget of retries that others draw on as well.
    #[must_use]
    pub fn retry_budget(mut self, budget: Arc<RetryBudget>) -> Self {
        self.retry_budget = budget;
        self
    }

    /// With bounds on calls, requests and tokens.
    #[must_use]
    pub fn limits(mut self, limits: LimitConfig) -> Self {
        self.limits = limits;
        self
    }

    /// With a cache of answers.
    #[must_use]
    pub fn cache(mut self, cache: Arc<ResponseCache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// With what models cost.
    #[must_use]
    pub fn prices(mut self, prices: Prices) -> Self {
        self.prices = prices;
        self
    }

    /// With a budget, perhaps shared with other clients.
    #[must_use]
    pub fn budget(mut self, budget: Arc<Budget>) -> Self {
        self.budget = budget;
        self
    }

    /// Counting in metrics that others count in as well.
    #[must_use]
    pub fn metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// The client.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] without a provider.
    pub fn build(self) -> Result<LlmClient> {
        let provider = self.provider.ok_or_else(|| Error::Configuration {
            setting: "provider".to_owned(),
            problem: "expected one, came none".to_owned(),
        })?;
        let policy = self.retry.unwrap_or_else(|| RetryPolicy::of_provider(provider.name()));
        let limited = Limits::new(Timeouts::new(provider, self.timeouts), &self.limits);
        let repeated = Retry::with_policy(limited, policy, self.retry_budget.clone());
        let counted = Costs::new(repeated, self.prices, self.budget.clone());
        let observed = Observed::new(counted, self.metrics.clone());
        let layers: Arc<dyn LlmProvider> = match &self.cache {
            Some(cache) => Arc::new(Cache::new(observed, cache.clone())),
            None => Arc::new(observed),
        };
        Ok(LlmClient {
            layers,
            model: self.model,
            metrics: self.metrics,
            budget: self.budget,
            retry_budget: self.retry_budget,
            cache: self.cache,
        })
    }
}
