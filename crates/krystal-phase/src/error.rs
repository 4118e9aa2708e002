//! What can go wrong.

/// What this crate refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An energy, preference or logit that is not a number.
    #[error("{what} {index} is not a number")]
    NotANumber {
        /// What it was to be.
        what: &'static str,
        /// Its place among its neighbours.
        index: usize,
    },
    /// Nothing to sum over.
    #[error("at least one state of an energy below infinity is needed, got none among {n_states}")]
    NoStates {
        /// States given.
        n_states: usize,
    },
    /// A temperature below zero, or not a number.
    #[error("a temperature must be at least 0, got {found}")]
    Temperature {
        /// As it was given.
        found: f64,
    },
    /// A setting outside its range.
    #[error("{name} must be {expected}, got {found}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// Its value.
        found: f64,
    },
    /// A measurement outside its range, or not a number.
    #[error("a measured {name} must be {expected}, got {found}")]
    Measured {
        /// What was measured.
        name: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// Its value.
        found: f64,
    },
    /// A controller that was not told what it controls by.
    #[error("the controller `{controller}` needs {needs}, which the measurement lacks")]
    Missing {
        /// Its name in the configuration.
        controller: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// Slices whose lengths disagree.
    #[error("expected {expected} {what}, got {found}")]
    Counts {
        /// What is counted.
        what: &'static str,
        /// As many as there should be.
        expected: usize,
        /// As many as there are.
        found: usize,
    },
    /// A datum that is NaN or infinite.
    #[error("{what} must be finite, number {index} is not")]
    NotFinite {
        /// What is measured.
        what: &'static str,
        /// The place of the first such datum.
        index: usize,
    },
    /// Too few data for what was asked.
    #[error("at least {needed} {what} are needed, got {found}")]
    TooFew {
        /// What there is too little of.
        what: &'static str,
        /// As many as are needed.
        needed: usize,
        /// As many as there are.
        found: usize,
    },
    /// A saved state that no run can have left behind.
    #[error("the saved state was refused: {name} must be {expected}, got {found}")]
    Saved {
        /// The part of it that cannot be.
        name: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// Its value.
        found: f64,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A setting that must satisfy a condition; write the condition so that NaN fails it.
pub(crate) fn setting(holds: bool, name: &'static str, expected: &'static str, found: f64) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Setting { name, expected, found }) }
}

/// The same for a measurement.
pub(crate) fn measured(holds: bool, name: &'static str, expected: &'static str, found: f64) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Measured { name, expected, found }) }
}

/// The same for a part of a saved state.
pub(crate) fn saved(holds: bool, name: &'static str, expected: &'static str, found: f64) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Saved { name, expected, found }) }
}
