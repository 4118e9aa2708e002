//! Many independent TD(0) learners, side by side in vectors.

use pulp::{Arch, NullaryFnOnce};
use serde::{Deserialize, Serialize};

use super::{TdConfig, require_dim, require_share};
use crate::error::{Error, Result, require, require_len};
use crate::features::LANES;
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
    steps: Vec<R>,
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
            steps: vec![R::ZERO; n_places],
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
        let Self { dim, alpha, weights, deltas, steps, .. } = self;
        let (dim, alpha) = (*dim, *alpha);
        if Arch::new().dispatch(Step { dim, alpha, weights, deltas, steps, x, rewards, next, discounts }) {
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
    steps: &'a mut [R],
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
        let Self { dim, alpha, weights, deltas, steps, x, rewards, next, discounts } = self;
        let steps = steps.as_chunks_mut::<WIDTH>().0;
        let (deltas, rewards, discounts) =
            (deltas.as_chunks_mut::<WIDTH>().0, rewards.as_chunks::<WIDTH>().0, discounts.as_chunks::<WIDTH>().0);
        let (weights, x, next) =
            (weights.as_chunks_mut::<WIDTH>().0, x.as_chunks::<WIDTH>().0, next.as_chunks::<WIDTH>().0);
        for (group, (delta, discount)) in deltas.iter_mut().zip(discounts).enumerate() {
            let here = group * dim..(group + 1) * dim;
            *delta = expectation(&weights[here.clone()], &x[here.clone()], &next[here], discount);
        }
        // Flat loops of their own: those over the lanes of one group would be unrolled and not vectorised.
        let flat = deltas.as_flattened_mut();
        for (delta, reward) in flat.iter_mut().zip(rewards.as_flattened()) {
            *delta += *reward;
        }
        // A product with 0 is 0 for every finite number and NaN for all others.
        if flat.iter().fold(false, |wrong, delta| wrong | (*delta * R::ZERO != R::ZERO)) {
            return false;
        }
        for (step, delta) in steps.as_flattened_mut().iter_mut().zip(flat.iter()) {
            *step = alpha * *delta;
        }
        for (group, step) in steps.iter().enumerate() {
            let here = group * dim..(group + 1) * dim;
            move_along(&mut weights[here.clone()], step, &x[here]);
        }
        true
    }
}

/// `w . (discount next - x)` of each learner of a group, added up as dense features are: in eight columns, and those in a tree.
#[inline(always)]
fn expectation<R: Real>(w: &[[R; WIDTH]], x: &[[R; WIDTH]], next: &[[R; WIDTH]], discount: &[R; WIDTH]) -> [R; WIDTH] {
    let n_whole = w.len() / LANES * LANES;
    let mut columns = [[R::ZERO; WIDTH]; LANES];
    for first in (0..n_whole).step_by(LANES) {
        let (w, x, next) = (&w[first..first + LANES], &x[first..first + LANES], &next[first..first + LANES]);
        for i in 0..LANES {
            add(&mut columns[i], &w[i], &x[i], &next[i], discount);
        }
    }
    for (i, at) in (n_whole..w.len()).enumerate() {
        add(&mut columns[i], &w[at], &x[at], &next[at], discount);
    }
    let four: [_; 4] = std::array::from_fn(|i| plus(&columns[i], &columns[i + 4]));
    plus(&plus(&four[0], &four[2]), &plus(&four[1], &four[3]))
}

/// `w += step x` of each learner of a group. Eight features at a time: a loop over single ones is vectorised across features, with
/// numbers gathered and scattered.
#[inline(always)]
fn move_along<R: Real>(w: &mut [[R; WIDTH]], step: &[R; WIDTH], x: &[[R; WIDTH]]) {
    let ((w8, w), (x8, x)) = (w.as_chunks_mut::<LANES>(), x.as_chunks::<LANES>());
    for (w, x) in w8.iter_mut().zip(x8) {
        for i in 0..LANES {
            add_product(&mut w[i], step, &x[i]);
        }
    }
    for (w, x) in w.iter_mut().zip(x) {
        add_product(w, step, x);
    }
}

#[inline(always)]
fn add_product<R: Real>(w: &mut [R; WIDTH], step: &[R; WIDTH], x: &[R; WIDTH]) {
    for lane in 0..WIDTH {
        w[lane] += step[lane] * x[lane];
    }
}

#[inline(always)]
fn plus<R: Real>(a: &[R; WIDTH], b: &[R; WIDTH]) -> [R; WIDTH] {
    let mut sum = *a;
    for lane in 0..WIDTH {
        sum[lane] += b[lane];
    }
    sum
}

#[inline(always)]
fn add<R: Real>(column: &mut [R; WIDTH], w: &[R; WIDTH], x: &[R; WIDTH], next: &[R; WIDTH], discount: &[R; WIDTH]) {
    for lane in 0..WIDTH {
        column[lane] += w[lane] * (discount[lane] * next[lane] - x[lane]);
    }
}
