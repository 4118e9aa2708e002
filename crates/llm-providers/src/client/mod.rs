//! What goes around providers: retries, deadlines, limits, fallback, a cache, traces, metrics and costs; each a wrapper that is a
//! provider itself.

mod cache;
mod costs;
mod histogram;
mod jitter;
mod limits;
mod metrics;
mod observed;
mod prices;
mod response_cache;
mod retry;
mod retry_budget;
mod retry_policy;
mod seconds;
mod timeouts;

pub use cache::Cache;
pub use costs::{Budget, Costs};
pub use limits::{LimitConfig, Limits};
pub use metrics::{Metrics, MetricsSnapshot, Series};
pub use observed::Observed;
pub use prices::{Price, Prices};
pub use response_cache::{CacheConfig, CacheWhen, ResponseCache};
pub use retry::Retry;
pub use retry_budget::RetryBudget;
pub use retry_policy::{OnLongHint, RetryPolicy};
pub use timeouts::{TimeoutConfig, Timeouts};
