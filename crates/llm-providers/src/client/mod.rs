//! What goes around providers: retries, deadlines, limits, fallback, a cache, traces, metrics and costs; each a wrapper that is a
//! provider itself, to be used alone or put together by [`LlmClient`], which also says in which order and why.
//!
//! The clock is tokio's: calls with deadlines, limits or retries are made inside of a runtime of tokio with its time enabled, and tests
//! may pause it. Nothing here starts a runtime or a task; dropping a call ends all of it.

mod cache;
mod config;
mod connect;
mod costs;
mod detect;
mod histogram;
mod jitter;
mod limits;
mod llm_client;
mod metrics;
mod observed;
mod prices;
mod response_cache;
mod retry;
mod retry_budget;
mod retry_policy;
mod router;
mod seconds;
mod target;
mod timeouts;

pub use cache::Cache;
pub use config::{
    BUDGET_VARIABLE, ClientConfig, Environment, KEY_VARIABLE, Origin, ResolvedConfig, TARGET_VARIABLE, resolve,
};
#[cfg(feature = "ollama")]
pub use connect::probe_ollama;
pub use connect::provider;
pub use costs::{Budget, Costs};
pub use detect::{DetectedTarget, Detection, detect};
pub use limits::{LimitConfig, Limits};
pub use llm_client::{ClientBuilder, LlmClient};
pub use metrics::{Metrics, MetricsSnapshot, Series};
pub use observed::Observed;
pub use prices::{Price, Prices};
pub use response_cache::{CacheConfig, CacheWhen, ResponseCache};
pub use retry::Retry;
pub use retry_budget::RetryBudget;
pub use retry_policy::{OnLongHint, RetryPolicy};
pub use router::{ANSWERED_BY, Candidate, Choose, Fallback, First, Outcome, Router, falls_back};
pub use target::{Target, Vendor};
pub use timeouts::{TimeoutConfig, Timeouts};
