//! Workers to test with, and the tree by its definition.

use std::convert::Infallible;

use half::bf16;
use sphere_hierarchy::collective::{Collective, InProcess};
use sphere_hierarchy::{ARITY, Accumulation, Attempt, BucketSink, GradientWorker, StreamingWorker, height, share};

/// A number for parameter `at` of leaf `leaf`: of mixed sign and magnitude, so that every other order of additions shows.
pub(crate) fn value(leaf: usize, at: usize) -> f32 {
    let mut x =
        (leaf as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (at as u64 + 7).wrapping_mul(0xD1B5_4A32_D192_ED03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 32;
    let mantissa = (x & 0xFFFF) as f32 / 65_536.0 - 0.5;
    mantissa * 2.0_f32.powi((x >> 60) as i32 - 8)
}

/// Leaf `i` of `n` parameters; the batch is its number.
pub(crate) struct Planted {
    pub(crate) n: usize,
}

impl Planted {
    pub(crate) fn new(n: usize) -> Self {
        Self { n }
    }

    pub(crate) fn weight_of(&self, leaf: usize) -> f32 {
        0.5 + (leaf % 7) as f32 / 3.0
    }
}

/// Some leaves take longer, so that others overtake them.
fn dawdle(leaf: usize) {
    if leaf.is_multiple_of(5) {
        (0..4).for_each(|_| std::thread::yield_now());
    }
}

impl GradientWorker for Planted {
    type Batch = usize;
    type Element = f32;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        self.n
    }

    fn weight(&self, leaf: &usize) -> f32 {
        self.weight_of(*leaf)
    }

    fn gradient(&self, leaf: &usize, _: &Attempt<'_>, out: &mut [f32]) -> Result<(), Infallible> {
        dawdle(*leaf);
        out.iter_mut().enumerate().for_each(|(at, out)| *out = value(*leaf, at));
        Ok(())
    }
}

/// The same gradients in half the bytes.
pub(crate) struct Narrow(pub(crate) Planted);

impl GradientWorker for Narrow {
    type Batch = usize;
    type Element = bf16;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        self.0.n
    }

    fn weight(&self, leaf: &usize) -> f32 {
        self.0.weight_of(*leaf)
    }

    fn gradient(&self, leaf: &usize, _: &Attempt<'_>, out: &mut [bf16]) -> Result<(), Infallible> {
        out.iter_mut().enumerate().for_each(|(at, out)| *out = bf16::from_f32(value(*leaf, at)));
        Ok(())
    }
}

/// The same gradients in buckets, the last first, as backward passes have them.
pub(crate) struct Streamed {
    pub(crate) planted: Planted,
    pub(crate) buckets: Vec<usize>,
}

impl StreamingWorker for Streamed {
    type Batch = usize;
    type Element = f32;
    type Error = Infallible;

    fn buckets(&self) -> Vec<usize> {
        self.buckets.clone()
    }

    fn weight(&self, leaf: &usize) -> f32 {
        self.planted.weight_of(*leaf)
    }

    fn gradient(&self, leaf: &usize, _: &Attempt<'_>, sink: &mut BucketSink<'_, f32>) -> Result<(), Infallible> {
        for bucket in (0..self.buckets.len()).rev() {
            let before: usize = self.buckets[..bucket].iter().sum();
            sink.fill(bucket, |out| {
                out.iter_mut().enumerate().for_each(|(at, out)| *out = value(*leaf, before + at));
            });
            dawdle(*leaf);
        }
        Ok(())
    }
}

/// `a + b`, and what rounding lost.
fn two_sum(a: f32, b: f32) -> (f32, f32) {
    let sum = a + b;
    let (b_part, a_part) = (sum - a, sum - (sum - a));
    (sum, (a - a_part) + (b - b_part))
}

/// The sum of one parameter over node `node` of level `level`, and what rounding lost in it, by the definition of the tree: no
/// buffers, no threads.
fn node_sum(
    level: u32,
    node: usize,
    n_leaves: usize,
    accumulation: Accumulation,
    leaf: &dyn Fn(usize) -> Option<f32>,
) -> Option<(f32, f32)> {
    if level == 0 {
        return leaf(node).map(|x| (x, 0.0));
    }
    let width = ARITY.pow(level - 1);
    let children = (node * ARITY..(node + 1) * ARITY).filter(|child| child * width < n_leaves);
    let sums = children.filter_map(|child| node_sum(level - 1, child, n_leaves, accumulation, leaf));
    sums.reduce(|(sum, error), (child, child_error)| match accumulation {
        Accumulation::Plain => (sum + child, 0.0),
        Accumulation::Compensated => {
            let (sum, lost) = two_sum(sum, child);
            (sum, error + (lost + child_error))
        }
    })
}

/// The sum of `n_leaves` leaves of `n` parameters over the tree, parameter by parameter; a leaf that is `None` is left out.
pub(crate) fn naive(
    n_leaves: usize,
    n: usize,
    accumulation: Accumulation,
    leaf: impl Fn(usize, usize) -> Option<f32>,
) -> Vec<f32> {
    let sum_of = |at: usize| {
        let leaf = |index: usize| leaf(index, at);
        node_sum(height(n_leaves).max(1), 0, n_leaves, accumulation, &leaf).map_or(0.0, |(sum, error)| sum + error)
    };
    (0..n).map(sum_of).collect()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Runs on every rank of a group with its share of the leaves, a batch being its number; the results in order of rank.
pub(crate) fn on_ranks<T: Send>(
    ranks: usize,
    n_leaves: usize,
    run: impl Fn(&InProcess, &[usize]) -> T + Sync,
) -> Vec<T> {
    let bounds: Vec<usize> = (0..ranks).map(|rank| share(n_leaves, rank, ranks).start).chain([n_leaves]).collect();
    on_ranks_with(&bounds, run)
}

/// As [`on_ranks`], rank `r` having leaves `bounds[r]..bounds[r + 1]`.
pub(crate) fn on_ranks_with<T: Send>(bounds: &[usize], run: impl Fn(&InProcess, &[usize]) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let run = &run;
        let start = |collective: InProcess| {
            scope.spawn(move || {
                let rank = collective.rank();
                let own: Vec<usize> = (bounds[rank]..bounds[rank + 1]).collect();
                run(&collective, &own)
            })
        };
        let threads: Vec<_> = InProcess::group(bounds.len() - 1).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
