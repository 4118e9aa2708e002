//! The final answer equals the reference as a number.

use crate::{Answer, Gold, GoldColumn, Sample, Verdict, Verifier};

/// 1 where the final answer of the completion equals the gold, 0 elsewhere; exact rational arithmetic.
///
/// How an answer is found: [`Answer::read`]; how a number may be written: [`crate::Quantity::read`]. Abstains where the
/// gold is missing or not a single number.
///
/// Extra columns: `parsed` (whether an answer could be read), `answer` (as read) or `unparsed` (why not).
#[derive(Debug, Clone, Default)]
pub struct Math {
    column: GoldColumn,
}

impl Math {
    /// Compares with the given column.
    pub fn new(column: GoldColumn) -> Self {
        Self { column }
    }
}

impl Verifier for Math {
    fn name(&self) -> &str {
        "math"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        let gold = match gold(&self.column, sample) {
            Ok(gold) => gold,
            Err(abstention) => return abstention,
        };
        match Answer::read(sample.completion) {
            Ok(answer) => Verdict::right(gold.accepts(&answer)).with("parsed", true).with("answer", answer.to_string()),
            Err(error) => Verdict::right(false).with("parsed", false).with("unparsed", error.to_string()),
        }
    }
}

/// The gold of a sample, or the abstention that says why there is none.
pub(super) fn gold(column: &GoldColumn, sample: &Sample<'_>) -> Result<Gold, Verdict> {
    let text = column.text(sample.columns).map_err(Verdict::abstain)?;
    Gold::read(&text).map_err(|error| Verdict::abstain(format!("the gold is not a single number ({error})")))
}
