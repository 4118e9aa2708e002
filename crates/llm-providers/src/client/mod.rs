//! What goes around providers: retries, deadlines, limits, fallback, a cache, traces, metrics and costs; each a wrapper that is a
//! provider itself.

mod costs;
mod histogram;
mod jitter;
mod metrics;
mod observed;
mod prices;
mod retry;
mod retry_budget;
mod retry_policy;
mod seconds;
mod timeouts;

pub use costs::{Budget, Costs};
pub use metrics::{Metrics, MetricsSnapshot, Series};
pub use observed::Observed;
pub use prices::{Price, Prices};
pub use retry::Retry;
pub use retry_budget::RetryBudget;
pub use retry_policy::{OnLongHint, RetryPolicy};
pub use timeouts::{TimeoutConfig, Timeouts};
