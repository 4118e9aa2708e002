//! A bound on how much retries add to the load.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many retries may be made, for all layers and all calls together: share one through an [`Arc`](std::sync::Arc).
///
/// Every call deposits a fraction of a retry, every retry (and every further candidate of a [`Fallback`](super::Fallback)) withdraws
/// one. While all is well the balance grows to its bound; when a server is down, retries add little to its load, however many layers
/// of them there are. The counter is whole thousandths of a retry.
#[derive(Debug)]
pub struct RetryBudget {
    thousandths: AtomicU64,
    deposit: u64,
    bound: u64,
}

/// A retry, in the counter's unit.
const ONE: u64 = 1000;

impl Default for RetryBudget {
    /// 10 % of the calls, and 10 to begin with.
    fn default() -> Self {
        Self::new(0.1, 10)
    }
}

impl RetryBudget {
    /// A budget of `per_call` retries for each call (0 to 1, in steps of a thousandth), and `reserve` to begin with. At most ten times
    /// the reserve is saved, and at least 10.
    pub fn new(per_call: f64, reserve: u32) -> Self {
        let reserve = u64::from(reserve) * ONE;
        Self {
            thousandths: AtomicU64::new(reserve),
            deposit: (per_call.clamp(0.0, 1.0) * ONE as f64).round() as u64,
            bound: (10 * reserve).max(10 * ONE),
        }
    }

    /// A call is made.
    pub(super) fn deposit(&self) {
        let add = |balance: u64| Some((balance + self.deposit).min(self.bound));
        let _ = self.thousandths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes one retry; false where there is none left.
    pub(super) fn withdraw(&self) -> bool {
        self.thousandths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| balance.checked_sub(ONE)).is_ok()
    }

    /// How many retries are left.
    pub fn balance(&self) -> f64 {
        self.thousandths.load(Ordering::Relaxed) as f64 / ONE as f64
    }
}
