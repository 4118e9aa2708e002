//! What can go wrong.

/// What this crate refuses, or what stopped a search.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A space with nothing to search.
    #[error("a search space needs at least one dimension, got none")]
    NoDimensions,
    /// Two dimensions that share a name.
    #[error("dimension names must differ, got `{name}` twice")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// Bounds that enclose nothing, or are not finite, or whose distance is not.
    #[error("dimension `{name}` needs finite bounds with low < high, got {low} and {high}")]
    Bounds {
        /// The dimension.
        name: String,
        /// Its lower bound.
        low: f64,
        /// Its upper bound.
        high: f64,
    },
    /// A logarithmic scale that reaches zero.
    #[error("dimension `{name}` has a logarithmic scale and needs low > 0, got {low}")]
    LogBounds {
        /// The dimension.
        name: String,
        /// Its lower bound.
        low: f64,
    },
    /// Integers that `f64` cannot tell apart.
    #[error("dimension `{name}` needs integers of at most 2^53 in magnitude, got {value}")]
    IntegerTooLarge {
        /// The dimension.
        name: String,
        /// The bound.
        value: i64,
    },
    /// A categorical dimension without choices, or with one of them twice.
    #[error("dimension `{name}` needs choices that differ, got {choices:?}")]
    Choices {
        /// The dimension.
        name: String,
        /// Its choices.
        choices: Vec<String>,
    },
    /// A point with too few or too many numbers or values.
    #[error("a point of this space has {expected} values, got {found}")]
    PointLength {
        /// Dimensions of the space.
        expected: usize,
        /// Values of the point.
        found: usize,
    },
    /// A value that its dimension does not have.
    #[error("dimension `{name}` takes {expected}, got {found}")]
    Value {
        /// The dimension.
        name: String,
        /// What it takes.
        expected: String,
        /// What came.
        found: String,
    },
    /// A name that the space does not have.
    #[error("no dimension is called `{name}`")]
    UnknownDimension {
        /// The name.
        name: String,
    },
    /// A setting out of its range.
    #[error("`{field}` must be {expected}, got {found}")]
    Setting {
        /// The field of the configuration.
        field: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: f64,
    },
    /// A trial that was never asked, or already told or abandoned.
    #[error("trial {id} is not pending: it was never asked, or has been told, failed or abandoned")]
    UnknownTrial {
        /// The trial.
        id: u64,
    },
    /// The objective panicked. The swarm keeps its best, counts the point as failed and can go on.
    #[error("the objective panicked at evaluation {evaluation}: {message}")]
    ObjectivePanicked {
        /// Which evaluation, counted from 1.
        evaluation: u64,
        /// What the panic said.
        message: String,
    },
    /// No point had a finite value.
    #[error("none of {evaluations} evaluations gave a finite value")]
    NothingFinite {
        /// Evaluations made.
        evaluations: u64,
    },
    /// A checkpoint that cannot be written or is not whole.
    #[error("the state of the swarm cannot be saved or loaded")]
    Checkpoint {
        /// The reason.
        #[source]
        source: krystal_checkpoint::Error,
    },
    /// A checkpoint whose parts contradict each other.
    #[error("the loaded swarm is inconsistent: expected {expected} {what}, got {found}")]
    Inconsistent {
        /// What is counted.
        what: &'static str,
        /// As many as there should be.
        expected: usize,
        /// As many as there are.
        found: usize,
    },
}

/// `Ok` where `holds`, an [`Error::Setting`] where not.
pub(crate) fn require(holds: bool, field: &'static str, expected: &'static str, found: f64) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Setting { field, expected, found }) }
}
