//! The 12-ary tree, by counting alone.
//!
//! Leaves are the micro-batches of a step, numbered from 0; node `j` of level `l` covers leaves `j * 12^l` up to
//! `(j + 1) * 12^l`, as far as there are any. The tree depends on the number of leaves and on nothing else.

use std::ops::Range;

use crate::error::{Error, Result};

/// Children of a sphere, as many as spheres of one size touch another in three dimensions.
pub const ARITY: usize = 12;

/// Spheres of a full tree of this depth, `(12^(depth + 1) - 1) / 11`: 1, 13, 157, 1,885, 22,621, 271,453, ...
///
/// # Errors
/// [`Error::DepthTooLarge`] where the number does not fit `u64` (depth 18 and beyond).
pub fn count_at_depth(depth: u32) -> Result<u64> {
    (0..=depth)
        .try_fold(0_u64, |count, level| count.checked_add(leaves(level)?))
        .ok_or(Error::DepthTooLarge { depth, most: MAX_DEPTH })
}

/// The deepest tree whose spheres can be counted in 64 bits.
pub(crate) const MAX_DEPTH: u32 = 17;

/// Spheres without children of a full tree of this depth, `12^depth`.
///
/// # Errors
/// [`Error::DepthTooLarge`] where the number does not fit `u64`.
pub fn leaves_at_depth(depth: u32) -> Result<u64> {
    leaves(depth).ok_or(Error::DepthTooLarge { depth, most: MAX_DEPTH })
}

fn leaves(depth: u32) -> Option<u64> {
    (ARITY as u64).checked_pow(depth)
}

/// The largest depth whose spheres all have a batch: the largest `d` with `12^d <= n_batches`.
///
/// # Errors
/// [`Error::NoBatches`] for 0.
pub fn optimal_depth(n_batches: usize) -> Result<u32> {
    n_batches.checked_ilog(ARITY).ok_or(Error::NoBatches)
}

/// Levels above the leaves: the smallest `h` with `12^h >= n_leaves`; 0 for none.
pub fn height(n_leaves: usize) -> u32 {
    match n_leaves {
        0 | 1 => 0,
        n => (n - 1).ilog(ARITY) + 1,
    }
}

/// The depth at which a step should take the least time on `threads` threads, micro-batches of `seconds` each: small spheres even out
/// best (at the end a thread waits for half a sphere on average), but handing one out costs about a microsecond.
///
/// # Errors
/// [`Error::NoBatches`] and [`Error::NoThreads`] for 0.
pub fn choose_depth(n_batches: usize, threads: usize, seconds: f64) -> Result<u32> {
    if n_batches == 0 {
        return Err(Error::NoBatches);
    }
    if threads == 0 {
        return Err(Error::NoThreads);
    }
    let height = height(n_batches);
    let predicted = |depth: u32| {
        let batches = width(height - depth).min(n_batches);
        let spheres = n_batches.div_ceil(batches);
        let sphere_seconds = batches as f64 * seconds.max(0.0);
        let waiting = if threads > 1 { sphere_seconds / 2.0 } else { 0.0 };
        spheres.div_ceil(threads) as f64 * (sphere_seconds + HAND_OUT_SECONDS) + waiting
    };
    Ok((0..=height).rev().min_by(|a, b| predicted(*a).total_cmp(&predicted(*b))).unwrap_or(height))
}

/// What handing a sphere to a thread and its sum back costs, order of magnitude (docs/benchmarks/sphere.md).
const HAND_OUT_SECONDS: f64 = 1e-6;

/// Leaves of a full node of this level, `usize::MAX` where there are more than that.
pub(crate) fn width(level: u32) -> usize {
    ARITY.saturating_pow(level)
}

/// Gradients that exist at most while `n_batches` are added on `threads` threads, the result included: `T (h + 1)` with the height
/// `h` of the tree, `T` at most as many as there are batches. That is the worst case of one batch that is slower than many others; and
/// 1, the result, for a single batch. Gradients of at most 8 KiB are taken several at a time, so that up to 32 small ones for each thread exist
/// instead.
///
/// | batches | threads | this | a gradient for each sphere |
/// |---|---|---|---|
/// | 1,728 | 2 | 8 | 1,885 |
/// | 144 | 2 | 6 | 157 |
/// | 12 | 12 | 24 | 13: more, not less |
pub fn peak_buffers(n_batches: usize, threads: usize) -> usize {
    threads.min(n_batches) * (height(n_batches) as usize + 1)
}

/// The part of `n_leaves` that rank `rank` of `size` computes: contiguous, in order of rank, and as even as can be.
pub fn share(n_leaves: usize, rank: usize, size: usize) -> Range<usize> {
    let bound = |rank: usize| (n_leaves as u128 * rank as u128 / size.max(1) as u128) as usize;
    bound(rank)..bound(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spheres_are_counted_as_the_formula_says() {
        let counts: Vec<u64> = (0..6).map(|depth| count_at_depth(depth).unwrap()).collect();
        assert_eq!(counts, [1, 13, 157, 1_885, 22_621, 271_453]);
        let formula = |depth: u32| ((12_u128.pow(depth + 1) - 1) / 11) as u64;
        assert!((0..=MAX_DEPTH).all(|depth| count_at_depth(depth).unwrap() == formula(depth)));
        assert!(12_u128.pow(MAX_DEPTH + 2) / 11 > u128::from(u64::MAX));
        let refused = count_at_depth(MAX_DEPTH + 1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a tree of depth 18 has more spheres than can be counted; at most 17 can be had"
        );
        assert!(count_at_depth(u32::MAX).is_err() && leaves_at_depth(18).is_err());
    }

    #[test]
    fn the_optimal_depth_leaves_no_sphere_without_a_batch() {
        let expected = [(1, 0), (11, 0), (12, 1), (143, 1), (144, 2), (500, 2), (1_727, 2), (1_728, 3)];
        for (batches, depth) in expected {
            assert_eq!(optimal_depth(batches).unwrap(), depth, "{batches}");
        }
        assert!(matches!(optimal_depth(0), Err(Error::NoBatches)));
    }

    #[test]
    fn a_tree_is_as_high_as_its_leaves_need() {
        for (leaves, expected) in [(0, 0), (1, 0), (2, 1), (12, 1), (13, 2), (144, 2), (145, 3), (1_728, 3), (1_729, 4)]
        {
            assert_eq!(height(leaves), expected, "{leaves}");
        }
    }

    #[test]
    fn a_sphere_a_batch_unless_batches_are_short() {
        assert_eq!(choose_depth(1_728, 2, 1e-3).unwrap(), 3);
        assert_eq!(choose_depth(1_728, 2, 0.0).unwrap(), 0);
        assert_eq!(choose_depth(1_728, 8, 1e-7).unwrap(), 1);
        assert_eq!(choose_depth(1_728, 1, 1.0).unwrap(), 0);
        assert_eq!(choose_depth(500, 2, f64::NAN).unwrap(), choose_depth(500, 2, 0.0).unwrap());
        assert!(choose_depth(0, 2, 1.0).is_err() && choose_depth(5, 0, 1.0).is_err());
    }

    #[test]
    fn shares_cover_every_leaf_once() {
        for (leaves, size) in [(0, 3), (1, 4), (7, 7), (100, 7), (1_728, 12), (usize::MAX, 5)] {
            let shares: Vec<_> = (0..size).map(|rank| share(leaves, rank, size)).collect();
            assert_eq!((shares[0].start, shares[size - 1].end), (0, leaves));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            let lengths = shares.iter().map(ExactSizeIterator::len);
            assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
        }
    }
}
