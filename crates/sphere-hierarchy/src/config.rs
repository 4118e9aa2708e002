//! Settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::reduce::Accumulation;

/// What happens to a step when a micro-batch has failed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The step fails and names the micro-batch.
    #[default]
    Fail,
    /// The micro-batch is left out, the sum of the others is multiplied by `(all weights) / (their weights)`, and the drop is
    /// counted. The result depends on which were dropped and on nothing else.
    DropAndRescale,
}

/// Settings of a [`SphereHierarchy`](crate::SphereHierarchy). None of them changes a bit of a sum but `accumulation`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SphereConfig {
    /// Threads that compute, at least 1; `None` takes those of the rayon pool that calls.
    pub threads: Option<usize>,
    /// Depth of the tree of spheres: a sphere without children computes its micro-batches one after another on one thread, so depth 0
    /// is one sphere and one thread. `None` chooses: a sphere for each micro-batch, or fewer where micro-batches are so short
    /// that handing them out would cost more than it evens out. Depths beyond the micro-batches leave spheres idle.
    pub depth: Option<u32>,
    /// How partial sums are kept.
    pub accumulation: Accumulation,
    /// What becomes of a step when a micro-batch has failed twice.
    pub on_failure: OnFailure,
    /// Longest time for one try at a micro-batch; needs a clock. A thread cannot be stopped from outside: a try that never
    /// returns keeps the step waiting, one that returns late is repeated elsewhere. Of several buckets those that are handed over are
    /// used, however late the rest is.
    pub time_limit: Option<Duration>,
    /// Accepts gradients that are infinite or not a number instead of treating them as a failed try; saves one pass over each
    /// gradient while it is in cache.
    pub accept_non_finite: bool,
    /// Hands micro-batches out in a shuffled order by this seed, as far as memory allows: to test that nothing depends on it.
    pub shuffle: Option<u64>,
}

impl SphereConfig {
    /// # Errors
    /// [`Error::NoThreads`] for 0 threads, [`Error::DepthTooLarge`] for a tree that cannot be counted.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.threads == Some(0) {
            return Err(Error::NoThreads);
        }
        self.depth.map_or(Ok(()), |depth| crate::tree::count_at_depth(depth).map(|_| ()))
    }
}
