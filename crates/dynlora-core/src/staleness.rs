//! Gradients that were computed on an older snapshot than the one they arrive at.

use serde::{Deserialize, Serialize};

/// How far behind a gradient may be, and how much of it then counts: `1 / (1 + k)` of one that is `k` publications behind
/// (R54).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StalenessPolicy {
    /// Most publications behind that are accepted; default 4. At 0 only gradients of the newest snapshot count.
    pub max_staleness: u64,
}

impl Default for StalenessPolicy {
    fn default() -> Self {
        Self { max_staleness: 4 }
    }
}

/// What becomes of a gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Staleness {
    /// It counts.
    Accepted {
        /// Publications behind.
        staleness: u64,
        /// Factor on it, in `(0, 1]`.
        weight: f64,
    },
    /// It is too old.
    Refused {
        /// Publications behind.
        staleness: u64,
    },
    /// It names a version that was never published: it belongs to another run.
    Unpublished,
}

impl Staleness {
    /// The factor on the gradient; 0 where it is refused.
    pub fn weight(self) -> f64 {
        match self {
            Self::Accepted { weight, .. } => weight,
            Self::Refused { .. } | Self::Unpublished => 0.0,
        }
    }
}

/// Gradients so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StalenessCounters {
    /// Judged.
    pub total: u64,
    /// Accepted at less than full weight.
    pub stale: u64,
    /// Refused.
    pub refused: u64,
}

impl StalenessPolicy {
    /// Judges a gradient of snapshot `version` while `current` is published, and counts it.
    pub fn judge(&self, version: u64, current: u64, counters: &mut StalenessCounters) -> Staleness {
        counters.total += 1;
        let Some(staleness) = current.checked_sub(version) else {
            counters.refused += 1;
            return Staleness::Unpublished;
        };
        if staleness > self.max_staleness {
            counters.refused += 1;
            return Staleness::Refused { staleness };
        }
        counters.stale += u64::from(staleness > 0);
        Staleness::Accepted { staleness, weight: 1.0 / (1.0 + staleness as f64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_counts_less_the_older_it_is_and_then_not_at_all() {
        let policy = StalenessPolicy { max_staleness: 2 };
        let mut counters = StalenessCounters::default();
        let weights: Vec<f64> = [10, 9, 8, 7, 11].map(|v| policy.judge(v, 10, &mut counters).weight()).to_vec();
        assert_eq!(weights, [1.0, 0.5, 1.0 / 3.0, 0.0, 0.0]);
        assert_eq!(counters, StalenessCounters { total: 5, stale: 2, refused: 2 });
        assert_eq!(policy.judge(u64::MAX, 0, &mut counters), Staleness::Unpublished);
        assert_eq!(policy.judge(0, u64::MAX, &mut counters), Staleness::Refused { staleness: u64::MAX });
    }
}
