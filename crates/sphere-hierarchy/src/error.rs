//! What can go wrong.

/// What this crate refuses, or what stopped a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tree that is too deep to count.
    #[error("a tree of depth {depth} has more spheres than can be counted; at most {most} can be had")]
    DepthTooLarge {
        /// Depth asked for.
        depth: u32,
        /// Largest depth there is.
        most: u32,
    },
    /// A step without batches.
    #[error("a step needs at least one batch, got 0")]
    NoBatches,
    /// No thread to compute with.
    #[error("at least one thread is needed, got 0")]
    NoThreads,
    /// Buffers whose lengths disagree.
    #[error("expected {expected} {what}, got {found}")]
    Counts {
        /// What is counted.
        what: &'static str,
        /// As many as there should be.
        expected: usize,
        /// As many as there are.
        found: usize,
    },
    /// A rank that the group does not have.
    #[error("there is no rank {rank} in a group of {size}")]
    NoSuchRank {
        /// Rank asked for.
        rank: usize,
        /// Ranks in all.
        size: usize,
    },
    /// MPI could not be started.
    #[error("MPI could not be started: {reason}")]
    Mpi {
        /// Why.
        reason: &'static str,
    },
    /// The engine between the ranks failed.
    #[error("rank {rank} of {size} could not {what}: {reason}")]
    Collective {
        /// This rank.
        rank: usize,
        /// Ranks in all.
        size: usize,
        /// What was tried.
        what: &'static str,
        /// The engine's words.
        reason: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
