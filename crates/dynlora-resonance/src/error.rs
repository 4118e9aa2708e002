//! What can be wrong with settings and gradients.

/// Why an engine could not be made or gradients not be combined.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has a value it cannot have.
    #[error("`{field}`: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Two gradients of one layer have different lengths.
    #[error("gradient {index} has {found} numbers, the first has {expected}")]
    Length {
        /// Which gradient, from 0.
        index: usize,
        /// Length of the first.
        expected: usize,
        /// Length of this one.
        found: usize,
    },
}

impl Error {
    /// Refuses a setting unless `holds`, which NaN should not make true.
    pub(crate) fn unless(
        holds: bool,
        field: &'static str,
        expected: &'static str,
        found: impl ToString,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::Setting { field, expected, found: found.to_string() }) }
    }
}
