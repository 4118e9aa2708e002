//! The last number of the completion is near the reference.

use num_rational::BigRational;
use num_traits::{Signed, Zero};

use super::math::gold;
use crate::math::{Kind, tokenize};
use crate::{Answer, Error, GoldColumn, Sample, Verdict, Verifier};

/// 1 where `|last number - gold| <= tolerance`, 0 elsewhere; exact rational arithmetic, markers are not looked for.
///
/// Abstains where the gold is missing or not a single number. Extra columns as those of [`crate::Math`].
#[derive(Debug, Clone)]
pub struct Numeric {
    column: GoldColumn,
    tolerance: BigRational,
}

impl Numeric {
    /// Compares with the given column. `tolerance` is absolute, a decimal such as `0`, `0.01` or `1e-6`; with 0 the
    /// numbers must be equal.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] where `tolerance` is not a number >= 0.
    pub fn new(column: GoldColumn, tolerance: &str) -> Result<Self, Error> {
        match tokenize(tolerance.trim()).as_slice() {
            [only] if let Kind::Number(number) = &only.kind => Ok(Self { column, tolerance: number.value.clone() }),
            _ => Err(Error::InvalidParameter {
                reward: "numeric",
                expected: "tolerance to be a number >= 0",
                found: tolerance.to_owned(),
            }),
        }
    }
}

impl Default for Numeric {
    /// The usual columns, tolerance 0.
    fn default() -> Self {
        Self { column: GoldColumn::default(), tolerance: BigRational::zero() }
    }
}

impl Verifier for Numeric {
    fn name(&self) -> &str {
        "numeric"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        let gold = match gold(&self.column, sample) {
            Ok(gold) => gold,
            Err(abstention) => return abstention,
        };
        match Answer::last_number(sample.completion) {
            Ok(answer) => {
                let distance = (gold.quantity().number() - answer.quantity().number()).abs();
                let near = gold.accepts(&answer) || distance <= self.tolerance;
                Verdict::right(near).with("parsed", true).with("answer", answer.to_string())
            }
            Err(error) => Verdict::right(false).with("parsed", false).with("unparsed", error.to_string()),
        }
    }
}
