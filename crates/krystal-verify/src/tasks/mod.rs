//! Problems made by a generator, with the verifier that knows their answers.

mod arithmetic;

pub use arithmetic::{Arithmetic, DEFAULT_SLIP_RATE, Operator, Problem};

use crate::Verdict;

/// A generator with its verifier.
///
/// # Contract
/// - Problems depend on the task's own configuration and the index alone.
/// - The two sets share no problem, nor one that gives another away.
/// - `verify` accepts what `answer` says, and never panics on any text.
pub trait Task: std::fmt::Debug + Send + Sync {
    /// The task's name.
    fn name(&self) -> &str;

    /// How many problems a set has.
    fn n_problems(&self, set: ProblemSet) -> usize;

    /// The prompt of a problem, `index` in `0..n_problems(set)`; `None` beyond.
    fn prompt(&self, set: ProblemSet, index: usize) -> Option<String>;

    /// The reference answer of a problem; `None` beyond the last.
    fn answer(&self, set: ProblemSet, index: usize) -> Option<String>;

    /// Judges a completion of a problem. Abstains where there is no such problem.
    fn verify(&self, set: ProblemSet, index: usize, completion: &str) -> Verdict;
}

/// Which problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemSet {
    /// For demonstrations and training.
    Training,
    /// For evaluation alone.
    HeldOut,
}
