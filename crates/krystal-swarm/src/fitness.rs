//! What a point is worth, so that any two can be compared.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// How good a point is; less is better. A point that violates constraints is worse than any that does not, and then the smaller
/// violation wins (Deb 2000, doi:10.1016/S0045-7825(99)00389-8). A NaN is worse than everything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fitness {
    /// By how much constraints are violated, `>= 0`; 0 for a feasible point.
    pub violation: f64,
    /// The objective's value.
    pub value: f64,
}

impl Fitness {
    /// The worst there is.
    pub const WORST: Self = Self { violation: f64::INFINITY, value: f64::INFINITY };

    /// A feasible point's fitness.
    pub const fn of(value: f64) -> Self {
        Self { violation: 0.0, value }
    }

    /// The fitness of a point where each of `inequalities` should be at most 0: its violation is the sum of those above. A constraint that
    /// is not a number is violated without end. An equality `h = 0` is the inequality `|h| - tolerance`.
    pub fn constrained(value: f64, inequalities: &[f64]) -> Self {
        let excess = |g: &f64| if g.is_nan() { f64::INFINITY } else { g.max(0.0) };
        Self { violation: inequalities.iter().map(excess).sum(), value }
    }

    /// Whether no constraint is violated.
    pub fn is_feasible(&self) -> bool {
        self.violation <= 0.0
    }

    /// From better to worse; a total order, in which all that is not a number is equal to infinity.
    pub fn order(&self, other: &Self) -> Ordering {
        if self.beats(other) {
            Ordering::Less
        } else if other.beats(self) {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }

    /// Whether this is strictly better than `other`.
    #[inline]
    pub fn beats(&self, other: &Self) -> bool {
        // The rule below, where there are no constraints, in half the time.
        if self.violation == 0.0 && other.violation == 0.0 {
            return self.value < other.value || (other.value.is_nan() && self.value < f64::INFINITY);
        }
        let (violation, others) = (rank(self.violation).max(0.0), rank(other.violation).max(0.0));
        violation < others || (violation == others && rank(self.value) < rank(other.value))
    }
}

#[inline]
fn rank(x: f64) -> f64 {
    if x.is_nan() { f64::INFINITY } else { x }
}

impl From<f64> for Fitness {
    fn from(value: f64) -> Self {
        Self::of(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feasible_first_then_value_and_nan_last() {
        let infeasible = |violation| Fitness { violation, value: -1e9 };
        let from_best = [
            Fitness::of(f64::NEG_INFINITY),
            Fitness::of(-1.0),
            Fitness::of(2.0),
            Fitness::of(f64::INFINITY),
            infeasible(0.5),
            infeasible(2.0),
            Fitness::WORST,
        ];
        for (i, a) in from_best.iter().enumerate() {
            for (j, b) in from_best.iter().enumerate() {
                assert_eq!(a.order(b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(Fitness::of(f64::NAN).order(&Fitness::of(f64::INFINITY)), Ordering::Equal);
        assert!(Fitness::of(3.0).beats(&Fitness::of(f64::NAN)));
        assert!(!infeasible(f64::NAN).beats(&infeasible(1.0)));
    }
}
