//! The completion is the reference, character for character.

use crate::{GoldColumn, Sample, Verdict, Verifier};

/// 1 where the completion equals the gold column, 0 elsewhere.
///
/// Normalisation: Unicode white space at both ends of both texts is removed, and nothing else. Case, inner white space,
/// punctuation and Unicode composition count. Abstains where the record has no such column, or one that is neither text
/// nor a number (a number is compared as JSON writes it).
#[derive(Debug, Clone, Default)]
pub struct Exact {
    column: GoldColumn,
}

impl Exact {
    /// Compares with the given column.
    pub fn new(column: GoldColumn) -> Self {
        Self { column }
    }
}

impl Verifier for Exact {
    fn name(&self) -> &str {
        "exact"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        match self.column.text(sample.columns) {
            Ok(gold) => Verdict::right(sample.completion.trim() == gold.trim()),
            Err(reason) => Verdict::abstain(reason),
        }
    }
}
