//! Successive halving: all of a generation get a little, the best of them more.
//!
//! Jamieson and Talwalkar (2016), arXiv:1502.07943.

use serde::{Deserialize, Serialize};

/// How much a trial may cost, in whatever unit the command counts in: steps, examples, seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// What every trial gets.
    pub(crate) min: u64,
    /// What the best of a generation get.
    pub(crate) max: u64,
    /// How many times more the next rung has, and how many times fewer trials.
    #[serde(default = "three")]
    pub(crate) factor: u64,
    /// The flag that takes it, where the command has no `{budget}`.
    #[serde(default = "max_steps")]
    pub(crate) flag: String,
}

fn three() -> u64 {
    3
}

fn max_steps() -> String {
    "max-steps".to_owned()
}

impl Budget {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { min, max, factor, .. } = self;
        if *min == 0 || max < min {
            return Err(format!("budget: expected `min` from 1 to `max`, found {min} and {max}"));
        }
        if *factor < 2 {
            return Err(format!("budget: expected `factor` of 2 or more, found {factor}"));
        }
        Ok(())
    }

    /// The budgets of the rungs, from small to large. The largest is `max`, whether or not it is `min` times a power of `factor`.
    pub(crate) fn rungs(&self) -> Vec<u64> {
        let mut rungs = vec![self.max];
        while let Some(last) = rungs.last().map(|last| last / self.factor)
            && last >= self.min
        {
            rungs.push(last);
        }
        rungs.reverse();
        rungs
    }

    /// How many of `n` trials go on to the next rung, at least one.
    pub(crate) fn survivors(&self, n: usize) -> usize {
        let factor = usize::try_from(self.factor).unwrap_or(usize::MAX);
        (n / factor).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(min: u64, max: u64, factor: u64) -> Budget {
        Budget { min, max, factor, flag: max_steps() }
    }

    #[test]
    fn rungs_end_at_the_most_and_start_at_no_less_than_the_least() {
        assert_eq!(budget(5, 45, 3).rungs(), [5, 15, 45]);
        assert_eq!(budget(5, 100, 3).rungs(), [11, 33, 100]);
        assert_eq!(budget(7, 7, 2).rungs(), [7]);
        assert_eq!(budget(1, u64::MAX, 2).rungs().len(), 64);
    }

    #[test]
    fn fewer_go_on_but_never_none() {
        assert_eq!([9, 8, 3, 2, 1].map(|n| budget(1, 9, 3).survivors(n)), [3, 2, 1, 1, 1]);
    }
}
