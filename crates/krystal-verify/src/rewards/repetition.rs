//! Repeated n-grams cost.

use std::collections::HashSet;

use crate::{Error, Sample, Verdict, Verifier};

/// `(1 - unique / total) * penalty` over the n-grams of completion tokens; 0 where there are fewer than `n` tokens.
#[derive(Debug, Clone, Copy)]
pub struct Repetition {
    n: usize,
    penalty: f64,
}

impl Repetition {
    /// `n` tokens per n-gram, >= 1, default 3; `penalty` <= 0, default -1: the score of a completion that only repeats.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] outside these ranges.
    pub fn new(n: usize, penalty: f64) -> Result<Self, Error> {
        let invalid = |expected, found| Err(Error::InvalidParameter { reward: "repetition", expected, found });
        if n == 0 {
            return invalid("n to be at least 1", n.to_string());
        }
        if !(penalty <= 0.0 && penalty.is_finite()) {
            return invalid("penalty to be a finite number <= 0", penalty.to_string());
        }
        Ok(Self { n, penalty })
    }
}

impl Default for Repetition {
    fn default() -> Self {
        Self { n: 3, penalty: -1.0 }
    }
}

impl Verifier for Repetition {
    fn name(&self) -> &str {
        "repetition"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        let total = (sample.tokens.len() + 1).saturating_sub(self.n);
        if total == 0 {
            return Verdict::score(0.0);
        }
        let unique = sample.tokens.windows(self.n).collect::<HashSet<_>>().len();
        Verdict::score((total - unique) as f64 / total as f64 * self.penalty)
    }
}
