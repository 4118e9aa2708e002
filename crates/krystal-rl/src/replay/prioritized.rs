//! Prioritised experience replay.

use krystal_math::rng::SplitMix64;
use serde::{Deserialize, Serialize};

use super::sum_tree::SumTree;
use super::transitions::{Batch, Transition, Transitions};
use super::uniform::check_shape;
use crate::elementary::raise;
use crate::error::{Error, Result, require, require_len};
use crate::real::Real;

/// Settings of a [`PrioritizedReplay`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrioritizedConfig {
    /// How much priorities matter, in `[0, 2]`: 0 is uniform, 1 proportional. Default 0.6, the paper's.
    pub alpha: f64,
    /// Added to every `|delta|`, so that no step is never drawn again; above 0, at most 1e100. Default 1e-6.
    pub epsilon: f64,
    /// How much of the bias of drawing unevenly the weights take back, in `[0, 1]`; the paper raises it from 0.4 to 1. Default 0.4.
    pub beta: f64,
}

impl Default for PrioritizedConfig {
    fn default() -> Self {
        Self { alpha: 0.6, epsilon: 1e-6, beta: 0.4 }
    }
}

impl PrioritizedConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        let Self { alpha, epsilon, beta } = *self;
        require((0.0..=2.0).contains(&alpha), "alpha", "from 0 to 2", alpha)?;
        require(epsilon > 0.0 && epsilon <= 1e100, "epsilon", "above 0, and 1e100 at most", epsilon)?;
        require((0.0..=1.0).contains(&beta), "beta", "from 0 to 1", beta)
    }
}

/// The last steps, drawn the more often the more they surprised.
///
/// `P(i) = (|delta_i| + epsilon)^alpha / sum_j (|delta_j| + epsilon)^alpha`, and each drawn step comes with the weight
/// `(N P(i))^-beta`, divided by the greatest of its batch. A new step has the greatest priority so far, so that it is soon seen once. `n` steps
/// are drawn from `n` equal parts of the sum, one from each, with replacement. Schaul, Quan, Antonoglou and Silver (2016),
/// arXiv:1511.05952.
///
/// `O(log N)` for each; sums are exact to rounding for ever ([`SumTree`]), and the bits are the same on every machine. Errors count as at most
/// 1e100, and at least 1e-100.
///
/// ```
/// use krystal_math::rng::{Purpose, SplitMix64};
/// use krystal_rl::{Batch, Next, PrioritizedConfig, PrioritizedReplay, Transition};
///
/// let mut replay = PrioritizedReplay::<f32>::new(2, 1000, PrioritizedConfig::default())?;
/// for i in 0..4 {
///     let x = [i as f32, 1.0];
///     replay.push(&Transition { x: &x, action: 0, reward: 1.0, next: Next::Terminated })?;
/// }
/// replay.update(&[0, 1, 2, 3], &[1.0, 2.0, 3.0, 4.0])?;
/// let mut batch = Batch::default();
/// replay.sample(8, &mut SplitMix64::stream(7, Purpose::Replay, 0, 0), &mut batch)?;
/// assert!((replay.probability(3)? - 0.3405).abs() < 1e-4);
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct PrioritizedReplay<R: Real> {
    config: PrioritizedConfig,
    steps: Transitions<R>,
    tree: SumTree,
    /// The greatest weight so far.
    greatest: f64,
    #[serde(skip)]
    scratch: Vec<f64>,
}

impl<R: Real> PrioritizedReplay<R> {
    /// Room for `capacity` steps between states of `dim` features.
    ///
    /// # Errors
    /// [`Error::Setting`] for no features, no room, or a setting outside its range.
    pub fn new(dim: usize, capacity: usize, config: PrioritizedConfig) -> Result<Self> {
        config.validate()?;
        let steps = Transitions::new(dim, capacity)?;
        Ok(Self { config, steps, tree: SumTree::new(capacity)?, greatest: 1.0, scratch: Vec::new() })
    }

    /// Steps kept.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a step with the greatest priority so far, in the place of the oldest once there is no room; returns its index.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::NotFinite`] for a step that is none.
    pub fn push(&mut self, step: &Transition<'_, R>) -> Result<usize> {
        let at = self.steps.push(step)?;
        self.tree.set(at, self.greatest)?;
        Ok(at)
    }

    /// Keeps many steps with the priorities of their errors, faster than one after another.
    ///
    /// # Errors
    /// As [`push`](Self::push), [`Error::Length`] if there are not as many errors as steps; steps before the one that is refused are kept.
    pub fn extend<'a>(&mut self, steps: impl IntoIterator<Item = Transition<'a, R>>, errors: &[R]) -> Result<()> {
        let mut indices = Vec::with_capacity(errors.len());
        for step in steps {
            match self.steps.push(&step) {
                Ok(at) => indices.push(at),
                Err(error) => {
                    let known = indices.len().min(errors.len());
                    self.update(&indices[..known], &errors[..known])?;
                    return Err(error);
                }
            }
        }
        self.update(&indices, errors)
    }

    /// The step at an index.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn get(&self, index: usize) -> Result<Transition<'_, R>> {
        self.steps.get(index)
    }

    /// `P(i)`
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn probability(&self, index: usize) -> Result<f64> {
        self.steps.get(index)?;
        Ok(self.tree.get(index)? / self.tree.total())
    }

    /// Sets the priorities of steps by their errors; of an index given twice the last counts.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::NotFinite`], or [`Error::Length`] if there are not as many errors; nothing is changed then.
    pub fn update(&mut self, indices: &[usize], errors: &[R]) -> Result<()> {
        require_len("errors", indices.len(), errors.len())?;
        crate::features::check_finite("error", errors)?;
        if let Some(index) = indices.iter().find(|index| **index >= self.len()) {
            return Err(Error::OutOfRange { what: "transition", index: *index, len: self.len() });
        }
        let PrioritizedConfig { alpha, epsilon, .. } = self.config;
        self.scratch.clear();
        // A weight beyond 1e100 would leave no room for a sum of them, and one below 1e-100 none for its share.
        let least = epsilon.max(1e-100);
        self.scratch.extend(errors.iter().map(|delta| (delta.to_f64().abs() + epsilon).clamp(least, 1e100)));
        raise(&mut self.scratch, alpha);
        self.tree.put(indices, &self.scratch);
        self.greatest = self.scratch.iter().fold(self.greatest, |a, b| a.max(*b));
        Ok(())
    }

    /// Draws `n` steps into `batch`, with weights by `config.beta`.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Setting`] for a batch of none.
    pub fn sample(&self, n: usize, rng: &mut SplitMix64, batch: &mut Batch<R>) -> Result<()> {
        require(n > 0, "batch", "at least 1", 0.0)?;
        let total = self.tree.total();
        let part = total / n as f64;
        batch.indices.clear();
        for i in 0..n {
            let index = self.tree.find((i as f64 + rng.uniform()) * part).ok_or(Error::Empty)?;
            batch.indices.push(index);
        }
        let scale = self.len() as f64 / total;
        batch.weights.clear();
        for index in &batch.indices {
            batch.weights.push((scale * self.tree.get(*index)?).max(f64::MIN_POSITIVE));
        }
        raise(&mut batch.weights, -self.config.beta);
        let greatest = batch.weights.iter().fold(0.0_f64, |a, b| a.max(*b));
        batch.weights.iter_mut().for_each(|w| *w /= greatest);
        self.steps.gather(batch);
        Ok(())
    }

    /// Changes how much of the bias the weights take back.
    ///
    /// # Errors
    /// [`Error::Setting`] outside `[0, 1]`.
    pub fn set_beta(&mut self, beta: f64) -> Result<()> {
        let config = PrioritizedConfig { beta, ..self.config };
        config.validate()?;
        self.config = config;
        Ok(())
    }

    pub(crate) fn validate(&self, dim: usize, capacity: usize) -> Result<()> {
        self.config.validate()?;
        check_shape(&self.steps, dim, capacity)?;
        let fits = self.tree.len() == capacity && self.greatest.is_finite() && self.greatest > 0.0;
        let beyond = (self.len()..capacity).try_fold(0.0, |sum, i| self.tree.get(i).map(|p| sum + p))?;
        if fits && beyond == 0.0 && (self.is_empty() || self.tree.total() > 0.0) {
            Ok(())
        } else {
            Err(Error::Inconsistent { what: "priorities of the replay buffer" })
        }
    }
}
