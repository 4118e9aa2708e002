//! Experience replay, all steps alike.

use krystal_math::rng::SplitMix64;
use serde::{Deserialize, Serialize};

use super::transitions::{Batch, Transition, Transitions};
use crate::error::{Error, Result, require};
use crate::real::Real;

/// The last steps, each drawn with the same probability, with replacement (Lin 1992, doi:10.1007/BF00992699).
///
/// All memory is taken when it is made; pushing and drawing allocate nothing once a [`Batch`] has its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct UniformReplay<R: Real> {
    steps: Transitions<R>,
}

impl<R: Real> UniformReplay<R> {
    /// Room for `capacity` steps between states of `dim` features.
    ///
    /// # Errors
    /// [`Error::Setting`] for no features or no room.
    pub fn new(dim: usize, capacity: usize) -> Result<Self> {
        Ok(Self { steps: Transitions::new(dim, capacity)? })
    }

    /// Steps kept.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a step, in the place of the oldest once there is no room; returns its index.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::NotFinite`] for a step that is none.
    pub fn push(&mut self, step: &Transition<'_, R>) -> Result<usize> {
        self.steps.push(step)
    }

    /// The step at an index.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn get(&self, index: usize) -> Result<Transition<'_, R>> {
        self.steps.get(index)
    }

    /// Draws `n` steps into `batch`.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Setting`] for a batch of none.
    pub fn sample(&self, n: usize, rng: &mut SplitMix64, batch: &mut Batch<R>) -> Result<()> {
        require(n > 0, "batch", "at least 1", 0.0)?;
        if self.is_empty() {
            return Err(Error::Empty);
        }
        batch.indices.clear();
        batch.indices.extend((0..n).map(|_| rng.below(self.len() as u64) as usize));
        batch.weights.clear();
        batch.weights.resize(n, 1.0);
        self.steps.gather(batch);
        Ok(())
    }

    pub(crate) fn validate(&self, dim: usize, capacity: usize) -> Result<()> {
        check_shape(&self.steps, dim, capacity)
    }
}

pub(crate) fn check_shape<R: Real>(steps: &Transitions<R>, dim: usize, capacity: usize) -> Result<()> {
    if steps.dim() != dim || steps.capacity() != capacity {
        return Err(Error::Inconsistent { what: "shape of the replay buffer" });
    }
    steps.validate()
}
