//! Long completions cost, softly.

use crate::{Error, Sample, Verdict, Verifier};

/// With `L` the number of completion tokens, `M = max` and `C = cache`:
/// 0 where `L <= M - C`, `(M - C - L) / C` where `L <= M`, -1 beyond (DAPO, arXiv 2503.14476, equation 13).
#[derive(Debug, Clone, Copy)]
pub struct SoftOverlong {
    max: Option<usize>,
    cache: usize,
}

impl SoftOverlong {
    /// `max` in tokens (`None`: the run's longest completion), `cache` in tokens: the stretch before `max` over which
    /// the penalty grows.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `1 <= cache <= max`.
    pub fn new(max: Option<usize>, cache: usize) -> Result<Self, Error> {
        if cache == 0 || max.is_some_and(|max| cache > max) {
            return Err(Error::InvalidParameter {
                reward: "soft_overlong",
                expected: "cache between 1 and max tokens",
                found: format!("cache={cache}{}", max.map(|max| format!(",max={max}")).unwrap_or_default()),
            });
        }
        Ok(Self { max, cache })
    }
}

impl Verifier for SoftOverlong {
    fn name(&self) -> &str {
        "soft_overlong"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        let max = self.max.unwrap_or(sample.max_completion_length);
        let length = sample.tokens.len();
        let free = max.saturating_sub(self.cache);
        Verdict::score(if length <= free {
            0.0
        } else if length <= max {
            // Lengths are far below 2^53.
            (free as f64 - length as f64) / self.cache as f64
        } else {
            -1.0
        })
    }
}
