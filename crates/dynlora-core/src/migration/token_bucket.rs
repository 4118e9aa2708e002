//! Bandwidth of a channel.

use serde::{Deserialize, Serialize};

/// Least ticks between two emergencies (R43).
pub const EMERGENCY_SPACING: u64 = 100;

/// Meters migration: each tick brings `rate` tokens, unused ones are kept up to `burst` (R42).
///
/// A token is the whole source layer: 0.01 moves one parameter in a hundred. Over a long time no more than `rate` a tick is
/// spent, and exactly that where there is always something to move. The seed's `current_transfer *= 0.9` lets a tenth of it
/// through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    burst_emergency: f64,
    tokens: f64,
    spent: f64,
    last_emergency: Option<u64>,
}

impl TokenBucket {
    /// An empty bucket. Amounts that are negative or no numbers count as 0; a burst below the rate, as the rate: less could never
    /// be spent.
    pub fn new(rate: f64, burst: f64, burst_emergency: f64) -> Self {
        let amount = |x: f64| if x.is_finite() && x > 0.0 { x } else { 0.0 };
        let rate = amount(rate);
        Self {
            rate,
            burst: amount(burst).max(rate),
            burst_emergency: amount(burst_emergency),
            tokens: 0.0,
            spent: 0.0,
            last_emergency: None,
        }
    }

    /// One tick passes: `tokens = min(burst, tokens + rate)`.
    pub fn refill(&mut self) {
        self.tokens = (self.tokens + self.rate).min(self.burst);
    }

    /// What may be spent now: an emergency may leave the bucket at `-burst_emergency`.
    pub fn available(&self, emergency: bool) -> f64 {
        (self.tokens + if emergency { self.burst_emergency } else { 0.0 }).max(0.0)
    }

    /// Spends at most `amount` of what is available and says how much that was.
    pub fn spend(&mut self, amount: f64, emergency: bool) -> f64 {
        let spent = amount.max(0.0).min(self.available(emergency));
        self.tokens -= spent;
        self.spent += spent;
        spent
    }

    /// Claims the one emergency of [`EMERGENCY_SPACING`] ticks. Whether it was still there.
    pub fn claim_emergency(&mut self, tick: u64) -> bool {
        let free = self.last_emergency.is_none_or(|last| tick.saturating_sub(last) >= EMERGENCY_SPACING);
        if free {
            self.last_emergency = Some(tick);
        }
        free
    }

    /// Tokens a tick.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Tokens now; negative after an emergency.
    pub fn tokens(&self) -> f64 {
        self.tokens
    }

    /// Tokens spent since the beginning.
    pub fn spent(&self) -> f64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever the sizes of what moves, 100,000 ticks of demand let through `rate` a tick, no more and no less.
        #[test]
        fn the_long_run_throughput_is_the_rate(
            rate in prop::sample::select(vec![0.01, 0.005, 0.001, 0.0001]),
            burst in 1.0..50.0_f64,
            sizes in prop::collection::vec(1e-6..0.2_f64, 1..20),
        ) {
            const TICKS: u32 = 100_000;
            let mut bucket = TokenBucket::new(rate, burst * rate, 0.0);
            let (mut next, mut left) = (0, sizes[0]);
            for tick in 1..=TICKS {
                bucket.refill();
                // Fluid: what does not fit goes on in the next tick.
                loop {
                    let spent = bucket.spend(left, false);
                    left -= spent;
                    if left > 0.0 { break }
                    next = (next + 1) % sizes.len();
                    left = sizes[next];
                }
                prop_assert!(bucket.spent() <= rate * f64::from(tick) * (1.0 + 1e-9));
            }
            prop_assert!((bucket.spent() / (rate * f64::from(TICKS)) - 1.0).abs() < 1e-9, "{}", bucket.spent());
        }

        /// Bursts of demand and emergencies: still never above the rate by more than what may be saved and borrowed.
        #[test]
        fn no_demand_beats_the_rate(demand in prop::collection::vec((0.0..0.3_f64, any::<bool>()), 1..400)) {
            let (rate, burst, debt) = (0.01, 0.1, 0.5);
            let mut bucket = TokenBucket::new(rate, burst, debt);
            for (tick, (amount, urgent)) in demand.into_iter().enumerate() {
                bucket.refill();
                let urgent = urgent && bucket.claim_emergency(tick as u64);
                bucket.spend(amount, urgent);
                prop_assert!(bucket.spent() <= rate * (tick + 1) as f64 + burst + debt + 1e-12);
                prop_assert!(bucket.tokens() >= -debt - 1e-12 && bucket.tokens() <= burst);
            }
        }
    }

    #[test]
    fn one_emergency_in_a_hundred_ticks() {
        let mut bucket = TokenBucket::new(0.01, 0.1, 1.0);
        let claimed: Vec<u64> = (0..350).filter(|tick| bucket.claim_emergency(*tick)).collect();
        assert_eq!(claimed, [0, 100, 200, 300]);
        // It borrows, and is paid back before anything else moves.
        bucket.refill();
        assert!((bucket.spend(5.0, true) - 1.01).abs() < 1e-12);
        let wait = (0..1000).find(|_| {
            bucket.refill();
            bucket.available(false) > 0.0
        });
        assert!(wait.is_some_and(|wait| (99..=101).contains(&wait)), "{wait:?}");
    }

    #[test]
    fn senseless_amounts_move_nothing() {
        let mut bucket = TokenBucket::new(f64::NAN, -1.0, f64::INFINITY);
        bucket.refill();
        assert_eq!(bucket.spend(f64::NAN, true), 0.0);
        assert_eq!(bucket.spend(1.0, false), 0.0);
    }
}
