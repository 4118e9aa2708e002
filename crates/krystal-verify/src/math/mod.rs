//! Exact mathematics for verifiers: numbers as people and models write them.
//!
//! Every value is a rational of arbitrary precision; nothing is compared in floating point. Work is bounded by counts of
//! digits, nesting and bits, never by a clock.

mod expression;
mod extract;
mod quantity;
mod token;

pub use quantity::Quantity;

pub(crate) use expression::{Evaluator, PercentSign};
pub(crate) use extract::{last_number, read_answer, read_gold};
pub(crate) use token::{Kind, Token, tokenize};

/// Why a text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// There is no number in it.
    #[error("no number")]
    NoNumber,
    /// Digits with separators that fit no notation, or more than one (`1000,99` is a decimal or a list).
    #[error("malformed or ambiguous number")]
    Malformed,
    /// More than one number where one was expected.
    #[error("several numbers")]
    SeveralNumbers,
    /// Something other than arithmetic on numbers: variables, roots, relations.
    #[error("not a single number")]
    NotANumber,
    /// Beyond the limits on digits, nesting or size.
    #[error("too large")]
    TooLarge,
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
}
