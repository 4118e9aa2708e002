//! Dense vectors.
//!
//! Products are summed in eight columns and the columns in a tree, so that the compiler can use vectors and the bits are those of
//! the [batch](crate::TdBatch), on every machine: nothing is fused into one rounding.

use super::Features;
use crate::error::{Result, require_len};
use crate::real::Real;

/// Columns of a sum.
pub(crate) const LANES: usize = 8;

/// The sum of eight columns, `((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))`.
#[inline(always)]
pub(crate) fn tree_sum<R: Real>(c: [R; LANES]) -> R {
    let four: [R; 4] = std::array::from_fn(|i| c[i] + c[i + 4]);
    let two: [R; 2] = std::array::from_fn(|i| four[i] + four[i + 2]);
    two[0] + two[1]
}

/// The sum of `n` products that `at` gives eight at a time, the last ones filled up with zeros.
#[inline(always)]
fn sum_of_products<R: Real>(weights: &[R], at: impl Fn(usize) -> [R; LANES], last: impl Fn(usize, usize) -> R) -> R {
    let (whole, rest) = weights.as_chunks::<LANES>();
    let mut columns = [R::ZERO; LANES];
    for (chunk, w) in whole.iter().enumerate() {
        let x = at(chunk);
        for lane in 0..LANES {
            columns[lane] += w[lane] * x[lane];
        }
    }
    for (lane, w) in rest.iter().enumerate() {
        columns[lane] += *w * last(whole.len(), lane);
    }
    tree_sum(columns)
}

#[inline(always)]
fn dot<R: Real>(x: &[R], weights: &[R]) -> R {
    let x = &x[..weights.len()];
    let (whole, rest) = x.as_chunks::<LANES>();
    sum_of_products(weights, |chunk| whole[chunk], |_, lane| rest[lane])
}

#[inline(always)]
fn temporal_difference<R: Real>(x: &[R], reward: R, discount: R, next: &[R], weights: &[R]) -> R {
    let n = weights.len();
    let ((x, x_rest), (next, next_rest)) = (x[..n].as_chunks::<LANES>(), next[..n].as_chunks::<LANES>());
    let difference = |next: R, x: R| discount * next - x;
    // One sum of products waits for the weights instead of two.
    reward
        + sum_of_products(
            weights,
            |chunk| std::array::from_fn(|lane| difference(next[chunk][lane], x[chunk][lane])),
            |_, lane| difference(next_rest[lane], x_rest[lane]),
        )
}

#[inline(always)]
fn add_to<R: Real>(x: &[R], scale: R, weights: &mut [R]) {
    for (w, x) in weights.iter_mut().zip(x) {
        *w += scale * *x;
    }
}

macro_rules! dense {
    ([$($generics:tt)*] $t:ty) => {
        impl<R: Real, $($generics)*> Features<R> for $t {
            #[inline(always)]
            fn fits(&self, dim: usize) -> Result<()> {
                require_len("features", dim, self.len())
            }

            #[inline(always)]
            fn dot(&self, weights: &[R]) -> R {
                dot(&self[..], weights)
            }

            #[inline(always)]
            fn add_to(&self, scale: R, weights: &mut [R]) {
                add_to(&self[..], scale, weights);
            }

            #[inline(always)]
            fn for_each(&self, mut f: impl FnMut(usize, R)) {
                self.iter().enumerate().for_each(|(index, value)| f(index, *value));
            }

            fn is_dense(&self) -> bool {
                true
            }

            #[inline(always)]
            fn temporal_difference(&self, reward: R, discount: R, next: &Self, weights: &[R]) -> R {
                temporal_difference(&self[..], reward, discount, &next[..], weights)
            }
        }
    };
}
dense!([][R]);
dense!([const N: usize] [R; N]);
dense!([] Vec<R>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_summed_whatever_the_length() {
        for n in 0..40 {
            let (x, w): (Vec<f64>, Vec<f64>) = (0..n).map(|i| (f64::from(i % 7) - 3.0, f64::from(i % 5) + 0.5)).unzip();
            let next: Vec<f64> = x.iter().map(|x| 1.0 - x).collect();
            let naive = |x: &[f64]| x.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>();
            assert_eq!(x.dot(&w), naive(&x), "{n}");
            assert_eq!(x.temporal_difference(2.0, 0.5, &next, &w), 2.0 + 0.5 * naive(&next) - naive(&x));
            let mut sum = w.clone();
            x.add_to(2.0, &mut sum);
            assert!(sum.iter().zip(&x).zip(&w).all(|((sum, x), w)| *sum == w + 2.0 * x));
        }
    }
}
