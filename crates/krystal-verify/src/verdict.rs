//! What is judged, by whom, and what comes out.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::Error;

/// One completion to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The prompt's text.
    pub prompt: &'a str,
    /// The completion's text, special tokens left out.
    pub completion: &'a str,
    /// The completion's tokens.
    pub tokens: &'a [u32],
    /// Whether the completion was cut at the length limit.
    pub truncated: bool,
    /// Most tokens a completion may have.
    pub max_completion_length: usize,
    /// Every other column of the data record.
    pub columns: &'a Map<String, Value>,
}

/// A score, or none.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A finite score.
    Score(f64),
    /// No verdict. This is not a wrong answer: the sample must not count either way.
    Abstain {
        /// Why, in one line.
        reason: String,
    },
}

/// The outcome for one completion, with extra columns for the table of completions.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Right, wrong, anything between, or no verdict.
    pub outcome: Outcome,
    /// Extra columns, such as `parsed: false` where no answer could be read.
    pub extra: BTreeMap<String, Value>,
}

impl Verdict {
    /// A score. One that is not finite becomes an abstention that says so.
    pub fn score(score: f64) -> Self {
        if score.is_finite() {
            Self { outcome: Outcome::Score(score), extra: BTreeMap::new() }
        } else {
            Self::abstain(format!("the score is not finite: {score}"))
        }
    }

    /// 1 for right, 0 for wrong.
    pub fn right(is_right: bool) -> Self {
        Self::score(if is_right { 1.0 } else { 0.0 })
    }

    /// No verdict, and why.
    pub fn abstain(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Abstain { reason: reason.into() }, extra: BTreeMap::new() }
    }

    /// Adds an extra column.
    #[must_use]
    pub fn with(mut self, column: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(column.into(), value.into());
        self
    }

    /// The score, `None` for an abstention.
    pub fn value(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Score(score) => Some(score),
            Outcome::Abstain { .. } => None,
        }
    }

    /// Why there is no verdict, `None` for a score.
    pub fn reason(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Score(_) => None,
            Outcome::Abstain { reason } => Some(reason),
        }
    }
}

/// Judges completions.
///
/// # Contract
/// - The verdict depends on the sample alone: not on time, threads or the other samples of a batch. (A deadline, where an
///   implementation has one, may turn a verdict into an abstention and into nothing else.)
/// - No completion text makes it panic or fail. What cannot be judged is an abstention; what cannot be read is wrong, with
///   an extra column `parsed: false`, so that parse failures can be counted apart.
/// - `verify_batch` gives one verdict per sample, in order. It fails only where judging is impossible altogether.
pub trait Verifier: fmt::Debug + Send + Sync {
    /// The name in metrics and tables.
    fn name(&self) -> &str;

    /// Judges one completion.
    fn verify(&self, sample: &Sample<'_>) -> Verdict;

    /// Judges a batch; one by one unless the implementation knows better.
    ///
    /// # Errors
    /// Where no sample can be judged, such as an external program that does not start.
    fn verify_batch(&self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, Error> {
        Ok(samples.iter().map(|sample| self.verify(sample)).collect())
    }
}

impl<V: Verifier + ?Sized> Verifier for Box<V> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        (**self).verify(sample)
    }

    fn verify_batch(&self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, Error> {
        (**self).verify_batch(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_that_is_not_finite_is_no_verdict() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Verdict::score(bad).value(), None);
            assert!(Verdict::score(bad).reason().is_some_and(|reason| reason.contains("not finite")));
        }
        assert_eq!(Verdict::score(-1.0).value(), Some(-1.0));
    }
}
