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
    /// A stream of several buckets cannot take back what it has handed over.
    #[error(
        "a gradient that is handed over in {buckets} buckets cannot be dropped when one of them fails: set `on_failure` to `fail`, or use one bucket"
    )]
    DropWhileStreaming {
        /// Buckets of the worker.
        buckets: usize,
    },
    /// Every micro-batch failed.
    #[error("all {n_batches} micro-batches of the step failed, so there is nothing to add")]
    NothingLeft {
        /// Micro-batches of the step.
        n_batches: usize,
    },
    /// A step ended because of another rank, whose own message says why.
    #[error("the step failed on rank {rank}, at micro-batch {batch}")]
    OtherRank {
        /// The rank that failed.
        rank: usize,
        /// Its micro-batch.
        batch: usize,
    },
    /// Threads could not be started.
    #[error("{threads} threads cannot be started")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// The reason.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
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
    /// Ranks that differ where they must not.
    #[error("rank {rank} has another {what} than rank 0")]
    RanksDisagree {
        /// The first that differs from rank 0.
        rank: usize,
        /// In what.
        what: &'static str,
    },
    /// A parameter that became infinite or NaN before an outer step.
    #[error("parameter {index} of rank {rank} is not finite")]
    ParameterNotFinite {
        /// Whose.
        rank: usize,
        /// Its first such parameter.
        index: usize,
    },
    /// An outer step whose result has no f32.
    #[error("the outer step would take parameter {index} beyond the largest f32")]
    OuterOverflow {
        /// The first such parameter.
        index: usize,
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
    /// Costs that no machine has.
    #[error("a cost model was refused: {what}")]
    CostModel {
        /// What must hold.
        what: &'static str,
    },
    /// A measurement that cannot be one.
    #[error("a sample needs a time above 0, bytes, and machines enough for what it timed: {sample}")]
    Sample {
        /// As it was given.
        sample: String,
    },
    /// Measurements that leave a cost open.
    #[error("the samples do not determine the {what}: {needed} needed")]
    Undetermined {
        /// What is open.
        what: &'static str,
        /// What would determine it, with its verb.
        needed: &'static str,
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

/// Why a try at a micro-batch failed. `E` is the worker's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeafFailure<E> {
    /// The worker panicked.
    #[error("the worker panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The worker returned an error.
    #[error("the worker refused it")]
    Refused {
        /// Its error.
        source: E,
    },
    /// The gradient is infinite or not a number.
    #[error("the gradient of parameter {parameter} is not finite")]
    NonFinite {
        /// The first such parameter.
        parameter: usize,
    },
    /// It took too long.
    #[error("it took {elapsed:?}, more than the limit of {limit:?}")]
    Overdue {
        /// Time of the try.
        elapsed: std::time::Duration,
        /// Longest time allowed.
        limit: std::time::Duration,
    },
    /// A streaming worker left a bucket out.
    #[error("bucket {bucket} was not filled")]
    BucketMissing {
        /// The first that is missing.
        bucket: usize,
    },
}

/// Why a step has no gradient. `E` is the worker's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E: std::error::Error + 'static> {
    /// The settings, the other ranks, or what was passed in.
    #[error(transparent)]
    Hierarchy(#[from] Error),
    /// A micro-batch failed as often as it may.
    #[error("micro-batch {batch} failed {tries} times")]
    Leaf {
        /// Its number in the step.
        batch: usize,
        /// Tries.
        tries: u32,
        /// Why the last one failed.
        #[source]
        failure: LeafFailure<E>,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
