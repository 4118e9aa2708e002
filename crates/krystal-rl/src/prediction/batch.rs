//! Many independent TD(0) learners, side by side in vectors.

use pulp::{Arch, NullaryFnOnce};
use serde::{Deserialize, Serialize};

use super::{TdConfig, require_dim, require_share};
use crate::error::{Error, Result, require, require_len};
use crate::features::{LANES, tree_sum};
use crate::real::Real;
use crate::step_size::StepSize;

/// Learners that share a vector: 16 numbers of f32 are one register of AVX-512.
const WIDTH: usize = 16;

/// Many independent TD(0) learners with the same settings, each with its own stream of states: sensors, users, options.
///
/// One learner must wait for its last step before it can take the next; many need not wait for each other, and step together in vectors:
/// an order of magnitude more steps a second. Each learner's weights are those of a [`Td`](crate::Td) with dense features, bit for bit, with
/// any instruction set.
///
/// Numbers lie in groups of 16 learners, in a group feature by feature: feature `i` of learner `l` is at
/// [`place`](TdBatch::place)`(l, i) = (l / 16 * dim + i) * 16 + l % 16`. Counts are rounded up to whole groups; what the learners that make
/// up the last group are given and learn means nothing.
///
/// ```
/// use krystal_rl::{TdBatch, TdConfig};
///
/// let mut batch = TdBatch::<f32>::new(100, 2, TdConfig::default())?;
/// let (mut x, next) = (vec![0.0; batch.n_features()], vec![0.0; batch.n_features()]);
/// x[batch.place(99, 1)] = 1.0;
/// let (rewards, discounts) = (vec![1.0; batch.n_places()], vec![0.95; batch.n_places()]);
/// batch.update(&x, &rewards, &next, &discounts)?;
/// assert_eq!(batch.weights()[batch.place(99, 1)], 0.1);
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct TdBatch<R: Real> {
    n_learners: usize,
    dim: usize,
    alpha: R,
    weights: Vec<R>,
    deltas: Vec<R>,
}

impl<R: Real> TdBatch<R> {
    /// `n_learners` of `dim` features each. `config.gamma` goes unused: every step has its own discount.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting outside its range or no learner, [`Error::StepSize`] for step sizes other than `Fixed`.
    pub fn new(n_learners: usize, dim: usize, config: TdConfig) -> Result<Self> {
        require_dim(dim)?;
        require(n_learners > 0, "n_learners", "at least 1", 0.0)?;
        require_share("gamma", config.gamma)?;
        config.step_size.validate()?;
        let StepSize::Fixed(alpha) = config.step_size else {
            let reason = "learners side by side have one that never changes";
            return Err(Error::StepSize { learner: "a batch", step_size: config.step_size.name(), reason });
        };
        let n_places = n_learners.div_ceil(WIDTH) * WIDTH;
        Ok(Self {
            n_learners,
            dim,
            alpha: R::from_f64(alpha),
            weights: vec![R::ZERO; n_places * dim],
            deltas: vec![R::ZERO; n_places],
        })
    }

    /// Learners.
    pub fn n_learners(&self) -> usize {
        self.n_learners
    }

    /// Numbers with one for each learner: learners rounded up to whole groups.
    pub fn n_places(&self) -> usize {
        self.deltas.len()
    }

    /// Numbers with one for each feature of each learner.
    pub fn n_features(&self) -> usize {
        self.weights.len()
    }

    /// Where feature `i` of learner `l` lies.
    pub fn place(&self, learner: usize, feature: usize) -> usize {
        (learner / WIDTH * self.dim + feature) * WIDTH + learner % WIDTH
    }

    /// One step of every learner, from `x` with its reward to `next`, whose value counts `discounts` times: `gamma`, or 0 where the
    /// episode terminated.
    ///
    /// # Errors
    /// [`Error::Length`], or [`Error::NotFinite`] with the first learner whose error is not finite; no learner is changed then.
    pub fn update(&mut self, x: &[R], rewards: &[R], next: &[R], discounts: &[R]) -> Result<()> {
        require_len("features", self.weights.len(), x.len())?;
        require_len("features of the next states", self.weights.len(), next.len())?;
        require_len("rewards", self.deltas.len(), rewards.len())?;
        require_len("discounts", self.deltas.len(), discounts.len())?;
        let Self { dim, alpha, weights, deltas, .. } = self;
        let (dim, alpha) = (*dim, *alpha);
        if Arch::new().dispatch(Step { dim, alpha, weights, deltas, x, rewards, next, discounts }) {
            return Ok(());
        }
        let wrong = self.deltas.iter().position(|delta| !delta.is_finite()).unwrap_or(0);
        Err(Error::NotFinite { what: "error of learner", index: wrong, found: self.deltas[wrong].to_f64() })
    }

    /// TD errors of the last step, one for each learner.
    pub fn errors(&self) -> &[R] {
        &self.deltas[..self.n_learners]
    }

    /// The weights of all learners.
    pub fn weights(&self) -> &[R] {
        &self.weights
    }
}

/// Errors of all learners first, so that a bad one changes nothing; then all weights.
struct Step<'a, R> {
    dim: usize,
    alpha: R,
    weights: &'a mut [R],
    deltas: &'a mut [R],
    x: &'a [R],
    rewards: &'a [R],
    next: &'a [R],
    discounts: &'a [R],
}

impl<R: Real> NullaryFnOnce for Step<'_, R> {
    /// Whether all errors were finite.
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let Self { dim, alpha, weights, deltas, x, rewards, next, discounts } = self;
        let (deltas, rewards, discounts) =
            (deltas.as_chunks_mut::<WIDTH>().0, rewards.as_chunks::<WIDTH>().0, discounts.as_chunks::<WIDTH>().0);
        let (weights, x, next) =
            (weights.as_chunks_mut::<WIDTH>().0, x.as_chunks::<WIDTH>().0, next.as_chunks::<WIDTH>().0);
        // A product with 0 is 0 for every finite number and NaN for all others.
        let mut zeros = [R::ZERO; WIDTH];
        for (group, delta) in deltas.iter_mut().enumerate() {
            let here = group * dim..(group + 1) * dim;
            let (w, x, next) = (&weights[here.clone()], &x[here.clone()], &next[here]);
            let expected = expectation(w, x, next, &discounts[group]);
            for lane in 0..WIDTH {
                delta[lane] = rewards[group][lane] + expected[lane];
                zeros[lane] += delta[lane] * R::ZERO;
            }
        }
        if zeros.iter().any(|zero| !zero.is_finite()) {
            return false;
        }
        for (group, delta) in deltas.iter().enumerate() {
            let here = group * dim..(group + 1) * dim;
            let step = delta.map(|delta| alpha * delta);
            for (w, x) in weights[here.clone()].iter_mut().zip(&x[here]) {
                for lane in 0..WIDTH {
                    w[lane] += step[lane] * x[lane];
                }
            }
        }
        true
    }
}

/// `w . (discount next - x)` of each learner of a group, added up as dense features are.
#[inline(always)]
fn expectation<R: Real>(w: &[[R; WIDTH]], x: &[[R; WIDTH]], next: &[[R; WIDTH]], discount: &[R; WIDTH]) -> [R; WIDTH] {
    let mut columns = [[R::ZERO; WIDTH]; LANES];
    let add = |column: &mut [R; WIDTH], ((w, x), next): ((&[R; WIDTH], &[R; WIDTH]), &[R; WIDTH])| {
        for lane in 0..WIDTH {
            column[lane] += w[lane] * (discount[lane] * next[lane] - x[lane]);
        }
    };
    let ((w8, w), (x8, x), (next8, next)) = (w.as_chunks::<LANES>(), x.as_chunks::<LANES>(), next.as_chunks::<LANES>());
    for ((w, x), next) in w8.iter().zip(x8).zip(next8) {
        for i in 0..LANES {
            add(&mut columns[i], ((&w[i], &x[i]), &next[i]));
        }
    }
    for (column, at) in columns.iter_mut().zip(w.iter().zip(x).zip(next)) {
        add(column, at);
    }
    std::array::from_fn(|lane| tree_sum(std::array::from_fn(|i| columns[i][lane])))
}
