//! The completion matches a regular expression.

use regex::Regex;

use crate::{Error, Sample, Verdict, Verifier};

/// 1 where the pattern matches somewhere in the completion, 0 elsewhere.
///
/// The syntax is that of the `regex` crate: no look-around and no back-references, and matching takes time linear in the
/// text whatever the pattern. Anchor with `^` and `$` to match the whole; `(?s)` lets `.` match line breaks.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// [`Error::Pattern`] where it does not compile.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        Regex::new(pattern)
            .map(|regex| Self { regex })
            .map_err(|source| Error::Pattern { pattern: pattern.to_owned(), source: Box::new(source) })
    }
}

impl Verifier for Pattern {
    fn name(&self) -> &str {
        "regex"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        Verdict::right(self.regex.is_match(sample.completion))
    }
}
