//! What can go wrong.

/// What this crate refuses. Whatever is refused has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// Two lengths that must agree and do not.
    #[error("expected {expected} {what}, got {found}")]
    Length {
        /// What is counted.
        what: &'static str,
        /// As many as there should be.
        expected: usize,
        /// As many as there are.
        found: usize,
    },
    /// An index beyond the end.
    #[error("{what} {index} does not exist: there are {len}")]
    OutOfRange {
        /// What is counted.
        what: &'static str,
        /// The index asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// An input that is infinite or not a number.
    #[error("{what} {index} must be finite, got {found}")]
    NotFinite {
        /// Which input.
        what: &'static str,
        /// Its place in its slice; 0 for a single number.
        index: usize,
        /// Its value.
        found: f64,
    },
    /// All inputs are finite and what the learner makes of them is not: it has diverged. Lower the step size.
    #[error("the learner has diverged: its {what} is {found}; a smaller step size may help")]
    Diverged {
        /// What became infinite or not a number.
        what: &'static str,
        /// Its value.
        found: f64,
    },
    /// A step size that this learner cannot use.
    #[error("{learner} cannot use the step size `{step_size}`: {reason}")]
    StepSize {
        /// The learner.
        learner: &'static str,
        /// The rule.
        step_size: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// There is nothing to choose from.
    #[error("there are no actions to choose from")]
    NoActions,
    /// There is nothing to draw from.
    #[error("the replay buffer is empty")]
    Empty,
    /// Calls of an agent in an order that has no meaning.
    #[error("`{called}` was called {found}, expected {expected}")]
    Order {
        /// The method.
        called: &'static str,
        /// When it was called.
        found: &'static str,
        /// When it should be.
        expected: &'static str,
    },
    /// A name that an agent has no room for.
    #[error("the observation has a new name `{name}` and all {state_dim} places of the state are taken")]
    NoRoom {
        /// The name.
        name: String,
        /// Places of the state.
        state_dim: usize,
    },
    /// A name that an observation gives twice.
    #[error("the observation names `{name}` twice")]
    NamedTwice {
        /// The name.
        name: String,
    },
    /// A state whose parts do not fit each other.
    #[error("the saved state is inconsistent: {what}")]
    Inconsistent {
        /// What does not fit.
        what: &'static str,
    },
    /// The phase controller refused.
    #[error("the phase controller refused")]
    Phase {
        /// The reason.
        #[source]
        source: krystal_phase::Error,
    },
    /// The swarm refused.
    #[error("the swarm refused")]
    Swarm {
        /// The reason.
        #[source]
        source: krystal_swarm::Error,
    },
    /// There is nothing to recover.
    #[error("the agent has no checkpoint to recover")]
    NoCheckpoint,
    /// A checkpoint could not be written or read.
    #[error("the agent's state was not {action}")]
    Checkpoint {
        /// What was tried: `saved` or `loaded`.
        action: &'static str,
        /// The reason.
        #[source]
        source: krystal_checkpoint::Error,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// # Errors
/// [`Error::Setting`] unless `holds`.
pub(crate) fn require(holds: bool, name: &'static str, expected: &'static str, found: f64) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Setting { name, expected, found }) }
}

/// # Errors
/// [`Error::Length`] unless there are as `expected`.
pub(crate) fn require_len(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

/// # Errors
/// [`Error::NotFinite`] for the first number that is not finite.
pub(crate) fn require_finite(what: &'static str, values: &[f64]) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NotFinite { what, index, found: values[index] }),
    }
}
