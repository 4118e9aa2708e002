//! Sources added to a sum, several in one pass over memory.
//!
//! Every kernel adds source after source to each number, left to right: how many sources share a pass changes how often the
//! sum is read and written, and no bit. The bodies are plain loops that the compiler vectorises for the target's baseline, for AVX2 and
//! for AVX-512; lanes never mix and nothing is fused into one rounding, so all give the same bits. Wide vectors matter for what they
//! write: a processor that sees whole lines of cache written need not read them first.

use pulp::{Arch, NullaryFnOnce};

use crate::element::Element;

/// Most sources of one pass: the children of a sphere.
const MOST: usize = crate::tree::ARITY;

/// A leaf's gradient, or a part of it, and what it is multiplied by before it is added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighted<'a, E> {
    pub(crate) values: &'a [E],
    pub(crate) weight: f32,
}

/// `sum = [sum +] w0 x0 + w1 x1 + ...`; with `start` the sum is set and what it held is not read.
///
/// # Panics
/// If the lengths disagree.
pub(crate) fn add<E: Element>(sum: &mut [f32], start: bool, sources: &[Weighted<'_, E>]) {
    add_and_square(sum, start, sources, &mut []);
}

/// As [`add`] and then [`squares`] of the sum, in the same pass; without either where `sums_of_squares` is empty. There is at
/// least one source.
pub(crate) fn add_and_square<E: Element>(
    sum: &mut [f32],
    start: bool,
    sources: &[Weighted<'_, E>],
    sums_of_squares: &mut [f64],
) {
    let mut start = start;
    let mut rest = sources;
    while !rest.is_empty() {
        let now;
        (now, rest) = rest.split_at([MOST, 8, 4, 2, 1].into_iter().find(|n| *n <= rest.len()).unwrap_or(1));
        let squares = if rest.is_empty() { &mut *sums_of_squares } else { &mut [] };
        match now.len() {
            MOST => add_n::<E, MOST>(sum, start, now, squares),
            8 => add_n::<E, 8>(sum, start, now, squares),
            4 => add_n::<E, 4>(sum, start, now, squares),
            2 => add_n::<E, 2>(sum, start, now, squares),
            _ => add_n::<E, 1>(sum, start, now, squares),
        }
        start = false;
    }
}

fn add_n<E: Element, const N: usize>(
    sum: &mut [f32],
    start: bool,
    sources: &[Weighted<'_, E>],
    sums_of_squares: &mut [f64],
) {
    let weights: [f32; N] = std::array::from_fn(|i| sources[i].weight);
    let values: [&[E]; N] = std::array::from_fn(|i| sources[i].values);
    for x in values {
        assert_eq!(x.len(), sum.len(), "sources are as long as the sum");
    }
    Arch::new().dispatch(AddN { sum, start, values, weights, sums_of_squares });
}

/// A type with a `call` instead of a closure, which would not be inlined into the code for wide vectors.
struct AddN<'a, E, const N: usize> {
    sum: &'a mut [f32],
    start: bool,
    values: [&'a [E]; N],
    weights: [f32; N],
    sums_of_squares: &'a mut [f64],
}

impl<E: Element, const N: usize> NullaryFnOnce for AddN<'_, E, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { sum, start, values, weights, sums_of_squares } = self;
        if !sums_of_squares.is_empty() {
            for (block, (sum, squares)) in sum.chunks_mut(NORM_BLOCK).zip(sums_of_squares).enumerate() {
                let values = values.map(|x| &x[block * NORM_BLOCK..][..sum.len()]);
                *squares = add_block(sum, start, values, weights);
            }
            return;
        }
        // Slices of one known length, so that the loops below have no bounds checks.
        let values: [&[E]; N] = std::array::from_fn(|i| &values[i][..sum.len()]);
        if start {
            for (at, sum) in sum.iter_mut().enumerate() {
                let mut total = weights[0] * values[0][at].to_f32();
                for i in 1..N {
                    total += weights[i] * values[i][at].to_f32();
                }
                *sum = total;
            }
        } else {
            for (at, sum) in sum.iter_mut().enumerate() {
                let mut total = *sum;
                for i in 0..N {
                    total += weights[i] * values[i][at].to_f32();
                }
                *sum = total;
            }
        }
    }
}

/// Adds to one block of the norm and returns the sum of its squares, lane by lane as [`squares`] does.
#[inline(always)]
fn add_block<E: Element, const N: usize>(sum: &mut [f32], start: bool, values: [&[E]; N], weights: [f32; N]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let n_whole = sum.len() / LANES;
    let (whole, rest) = sum.as_chunks_mut::<LANES>();
    let chunks = values.map(|x| &x.as_chunks::<LANES>().0[..n_whole]);
    for (at, sum) in whole.iter_mut().enumerate() {
        let first = chunks[0][at].map(|x| weights[0] * x.to_f32());
        let mut total = if start { first } else { std::array::from_fn(|lane| sum[lane] + first[lane]) };
        for i in 1..N {
            for (total, x) in total.iter_mut().zip(&chunks[i][at]) {
                *total += weights[i] * x.to_f32();
            }
        }
        *sum = total;
        for (lane, x) in lanes.iter_mut().zip(total) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    for (lane, (at, sum)) in rest.iter_mut().enumerate().map(|(lane, sum)| (lane, (n_whole * LANES + lane, sum))) {
        let mut total = if start { 0.0 } else { *sum };
        for i in 0..N {
            let x = weights[i] * values[i][at].to_f32();
            total = if start && i == 0 { x } else { total + x };
        }
        *sum = total;
        lanes[lane] += f64::from(total) * f64::from(total);
    }
    lanes.iter().sum()
}

/// `a + b` rounded, and what rounding lost (Knuth's TwoSum): exact unless it overflows.
#[inline(always)]
fn two_sum(a: f32, b: f32) -> (f32, f32) {
    let sum = a + b;
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

/// As [`add`] with compensation: what rounding loses is added up in `error`, so that `sum + error` is nearly what twice the
/// precision would give (Neumaier's variant of Kahan's summation).
pub(crate) fn add_compensated<E: Element>(
    sum: &mut [f32],
    error: &mut [f32],
    start: bool,
    sources: &[Weighted<'_, E>],
) {
    assert_eq!(sum.len(), error.len(), "one error for each sum");
    if start {
        sum.fill(0.0);
        error.fill(0.0);
    }
    for source in sources {
        assert_eq!(source.values.len(), sum.len(), "sources are as long as the sum");
        add_one_compensated(sum, error, *source);
    }
}

fn add_one_compensated<E: Element>(sum: &mut [f32], error: &mut [f32], source: Weighted<'_, E>) {
    for ((sum, error), x) in sum.iter_mut().zip(error).zip(source.values) {
        let lost;
        (*sum, lost) = two_sum(*sum, source.weight * x.to_f32());
        *error += lost;
    }
}

/// Adds one compensated sum to another.
pub(crate) fn merge_compensated(
    sum: &mut [f32],
    error: &mut [f32],
    other: impl Iterator<Item = f32>,
    other_error: &[f32],
) {
    for (((sum, error), x), x_error) in sum.iter_mut().zip(error).zip(other).zip(other_error) {
        let lost;
        (*sum, lost) = two_sum(*sum, x);
        *error += lost + x_error;
    }
}

/// The first number that is infinite or not a number.
pub(crate) fn first_non_finite<E: Element>(values: &[E]) -> Option<usize> {
    const BLOCK: usize = 1024;
    for (block, values) in values.chunks(BLOCK).enumerate() {
        if has_non_finite(values) {
            return values.iter().position(|x| !x.to_f32().is_finite()).map(|at| block * BLOCK + at);
        }
    }
    None
}

fn has_non_finite<E: Element>(values: &[E]) -> bool {
    // Without branches: a product with 0 is 0 for every finite number and NaN for all others.
    let mut sums = [0.0_f32; 16];
    // Chunks of a known length, so that the lanes stay in registers.
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (sum, x) in sums.iter_mut().zip(values) {
            *sum += x.to_f32() * 0.0;
        }
    }
    sums.iter().any(|sum| sum.is_nan()) || rest.iter().any(|x| !x.to_f32().is_finite())
}

/// Sums of squares that grow side by side within a block.
const LANES: usize = 16;

/// Numbers whose squares are added before they meet others.
pub(crate) const NORM_BLOCK: usize = 4096;

/// Sums of squares of blocks of [`NORM_BLOCK`] numbers, in `f64`, in an order that depends on nothing but the length.
///
/// # Panics
/// If there are not as many sums as blocks.
pub(crate) fn squares(values: &[f32], sums: &mut [f64]) {
    assert_eq!(values.len().div_ceil(NORM_BLOCK), sums.len(), "one sum for each block");
    for (block, sum) in values.chunks(NORM_BLOCK).zip(sums) {
        *sum = squares_of(block);
    }
}

fn squares_of(block: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let mut add = |values: &[f32]| {
        for (lane, x) in lanes.iter_mut().zip(values) {
            let x = f64::from(*x);
            *lane += x * x;
        }
    };
    let (whole, rest) = block.as_chunks::<LANES>();
    whole.iter().for_each(|values| add(values));
    add(rest);
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 977.0 - 1.0).collect()
    }

    fn sources<E>(values: &[Vec<E>]) -> Vec<Weighted<'_, E>> {
        values.iter().zip(1..).map(|(values, i)| Weighted { values, weight: 1.0 / i as f32 }).collect()
    }

    #[test]
    fn fused_passes_add_left_to_right() {
        for n_sources in 1..=27 {
            for len in [0, 1, 15, 16, 17, 1000] {
                let data: Vec<Vec<f32>> = (0..n_sources).map(|i| values(len, i)).collect();
                for start in [true, false] {
                    let mut sum = values(len, 99);
                    let expected: Vec<f32> = (0..len)
                        .map(|at| {
                            let terms = data.iter().zip(1..).map(|(x, i)| (1.0 / i as f32) * x[at]);
                            let terms = (!start).then(|| sum[at]).into_iter().chain(terms);
                            terms.reduce(|a, b| a + b).unwrap()
                        })
                        .collect();
                    add(&mut sum, start, &sources(&data));
                    assert_eq!(sum, expected, "{n_sources} sources of {len}");
                }
            }
        }
    }

    #[test]
    fn squares_come_along_with_the_last_pass() {
        for n_sources in [1, 2, 3, 12, 13, 25] {
            for len in [1, 15, 16, 33, NORM_BLOCK, NORM_BLOCK + 1, 2 * NORM_BLOCK + 77] {
                let data: Vec<Vec<f32>> = (0..n_sources).map(|i| values(len, i)).collect();
                for start in [true, false] {
                    let (mut alone, mut together) = (values(len, 99), values(len, 99));
                    let (mut expected, mut found) =
                        (vec![0.0; len.div_ceil(NORM_BLOCK)], vec![0.0; len.div_ceil(NORM_BLOCK)]);
                    add(&mut alone, start, &sources(&data));
                    squares(&alone, &mut expected);
                    add_and_square(&mut together, start, &sources(&data), &mut found);
                    assert!(alone == together && expected == found, "{n_sources} sources of {len}, {start}");
                }
            }
        }
    }

    #[test]
    fn bf16_is_widened_exactly() {
        let data: Vec<Vec<bf16>> = (0..5).map(|i| values(33, i).into_iter().map(bf16::from_f32).collect()).collect();
        let wide: Vec<Vec<f32>> = data.iter().map(|x| x.iter().map(|x| x.to_f32()).collect()).collect();
        let (mut narrow_sum, mut wide_sum) = (vec![0.0; 33], vec![0.0; 33]);
        add(&mut narrow_sum, true, &sources(&data));
        add(&mut wide_sum, true, &sources(&wide));
        assert_eq!(narrow_sum, wide_sum);
    }

    #[test]
    fn compensation_keeps_what_plain_addition_loses() {
        let big = [vec![1.0_f32], vec![3e-8], vec![3e-8], vec![3e-8], vec![3e-8]];
        let unit: Vec<_> = big.iter().map(|values| Weighted { values, weight: 1.0 }).collect();
        let mut plain = [9.0];
        add(&mut plain, true, &unit);
        assert_eq!(plain, [1.0]);
        let (mut sum, mut error) = ([9.0], [9.0]);
        add_compensated(&mut sum, &mut error, true, &unit);
        assert_eq!(sum[0] + error[0], 1.0 + 1.2e-7);
        let (other, other_error) = (sum, error);
        merge_compensated(&mut sum, &mut error, other.into_iter(), &other_error);
        assert_eq!(f64::from(sum[0]) + f64::from(error[0]), 2.0 * (f64::from(other[0]) + f64::from(other_error[0])));
    }

    #[test]
    fn numbers_that_are_none_are_found() {
        for len in [1, 15, 1024, 1025, 5000] {
            let mut data = values(len, 3);
            assert_eq!(first_non_finite(&data), None);
            data[0] = f32::MAX;
            data[len - 1] = -f32::MAX;
            assert_eq!(first_non_finite(&data), None);
            for at in [0, len / 2, len - 1] {
                for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut data = data.clone();
                    data[at] = wrong;
                    assert_eq!(first_non_finite(&data), Some(at));
                    let narrow: Vec<bf16> = data.iter().map(|x| bf16::from_f32_const(*x)).collect();
                    assert!(first_non_finite(&narrow).is_some());
                }
            }
        }
    }

    #[test]
    fn squares_of_blocks() {
        for len in [0, 1, 4095, 4096, 4097, 10_000] {
            let data = values(len, 5);
            let mut sums = vec![0.0; len.div_ceil(NORM_BLOCK)];
            squares(&data, &mut sums);
            let exact: f64 = data.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            assert!((sums.iter().sum::<f64>() - exact).abs() <= 1e-12 * exact);
        }
    }
}
