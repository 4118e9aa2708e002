//! The tree over buffers in memory, tile by tile.
//!
//! Adding `N` buffers of `P` numbers must read `4 N P` bytes; nothing is faster than that. So partial sums never leave the
//! second-level cache: of each tile of [`TILE`] numbers the whole tree is evaluated before the next tile is touched, up to twelve
//! sources in one pass.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::kernel::{NORM_BLOCK, Weighted, add_and_square, add_compensated, merge_compensated};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::fold::{Fold, Op, Piece};

/// Numbers of a tile: 64 KiB of each source and partial sum. A multiple of the norm's blocks.
const TILE: usize = 4 * NORM_BLOCK;

/// How partial sums are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accumulation {
    /// In `f32`. The relative error of a sum of `n` leaves is at most about `11 log12(n) u` of the sum of magnitudes,
    /// `u = 2^-24`, against `(n - 1) u` of adding one after another.
    #[default]
    Plain,
    /// In `f32` with a second `f32` for what rounding lost: nearly the exact sum, at twice the memory of partial sums.
    Compensated,
}

/// One step of the tree, known before any number is.
#[derive(Debug, Clone)]
enum Step {
    Add { level: u32, start: bool, sources: Range<usize> },
    Carry { level: u32, start: bool },
}

fn program(n_leaves: usize, pieces: &[Piece]) -> (Vec<Step>, u32) {
    let mut fold = Fold::new(0, n_leaves);
    let mut steps: Vec<Step> = Vec::new();
    let mut record = |op: Op, source: usize| match op {
        Op::Take { level, start } => match steps.last_mut() {
            Some(Step::Add { level: last, sources, .. }) if *last == level && !start => sources.end += 1,
            _ => steps.push(Step::Add { level, start, sources: source..source + 1 }),
        },
        Op::Carry { level, start } => steps.push(Step::Carry { level, start }),
        Op::Loose { .. } | Op::Release { .. } => {
            unreachable!("a pass from the first to the last leaf leaves nothing over")
        }
    };
    let mut next = 0;
    for (source, piece) in pieces.iter().enumerate() {
        for dropped in next..piece.leaves(n_leaves).start {
            fold.push(Piece::leaf(dropped), false, |op| record(op, source));
        }
        next = piece.leaves(n_leaves).end;
        fold.push(*piece, true, |op| record(op, source));
    }
    for dropped in next..n_leaves {
        fold.push(Piece::leaf(dropped), false, |op| record(op, pieces.len()));
    }
    fold.finish(n_leaves, |op| record(op, pieces.len()));
    (steps, fold.root())
}

/// Sums and errors of a tile at each level below the root.
#[derive(Debug)]
struct Scratch {
    sums: Vec<Vec<f32>>,
    errors: Vec<Vec<f32>>,
}

/// What rounding has lost in the sum of each piece; empty where the pieces are leaves or nothing is kept of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PieceErrors<'a>(pub(crate) &'a [&'a [f32]]);

/// Sums pieces of a tree of `n_leaves`, given in order and covering every leaf that is present, into `out`; sums of squares of
/// the result's blocks of [`NORM_BLOCK`] go to `norms`.
///
/// Memory: `64 KiB` for each level of the tree (twice that and one more where errors are kept).
pub(crate) fn fold_tiles<E: Element>(
    n_leaves: usize,
    pieces: &[Piece],
    sources: &[Weighted<'_, E>],
    piece_errors: PieceErrors<'_>,
    accumulation: Accumulation,
    out: &mut [f32],
    norms: &mut [f64],
) {
    let (steps, root) = program(n_leaves, pieces);
    let compensated = accumulation == Accumulation::Compensated;
    let tile = TILE.min(out.len());
    let mut scratch = Scratch {
        sums: vec![vec![0.0; tile]; root as usize - 1],
        errors: vec![vec![0.0; tile]; if compensated { root as usize } else { 0 }],
    };
    for (index, (out, norms)) in out.chunks_mut(TILE).zip(norms.chunks_mut(TILE / NORM_BLOCK)).enumerate() {
        let at = index * TILE..index * TILE + out.len();
        let mut now: Vec<Weighted<'_, E>> = Vec::with_capacity(sources.len().min(64));
        for (index, step) in steps.iter().enumerate() {
            // Squares come along with the last addition to the root.
            let is_last = index + 1 == steps.len() && !compensated;
            let squares_now = if is_last { &mut *norms } else { &mut [] };
            let (level, carries) = match step {
                Step::Add { level, .. } => (*level, false),
                Step::Carry { level, .. } => (*level + 1, true),
            };
            // Levels below the target lie before it, the root's sum is `out`.
            let (below, rest) = scratch.sums.split_at_mut(level as usize - 1);
            let sum = if level == root { &mut *out } else { &mut rest[0][..at.len()] };
            let (errors_below, errors) = scratch.errors.split_at_mut(if compensated { level as usize - 1 } else { 0 });
            let error = errors.first_mut().map(|error| &mut error[..at.len()]);
            if carries {
                let child = &below[level as usize - 2][..at.len()];
                let start = matches!(step, Step::Carry { start: true, .. });
                match error {
                    None => add_and_square(sum, start, &[Weighted { values: child, weight: 1.0 }], squares_now),
                    Some(error) => {
                        let child_error = &errors_below[level as usize - 2][..at.len()];
                        if start {
                            sum.copy_from_slice(child);
                            error.copy_from_slice(child_error);
                        } else {
                            merge_compensated(sum, error, child.iter().copied(), child_error);
                        }
                    }
                }
            } else if let Step::Add { start, sources: which, .. } = step {
                now.clear();
                now.extend(
                    sources[which.clone()].iter().map(|s| Weighted { values: &s.values[at.clone()], weight: s.weight }),
                );
                match error {
                    None => add_and_square(sum, *start, &now, squares_now),
                    Some(error) if piece_errors.0.is_empty() => add_compensated(sum, error, *start, &now),
                    Some(error) => {
                        for (n, which) in which.clone().enumerate() {
                            let piece_error = &piece_errors.0[which][at.clone()];
                            let piece = now[n].values.iter().map(|x| x.to_f32());
                            if *start && n == 0 {
                                sum.iter_mut().zip(piece).for_each(|(sum, x)| *sum = x);
                                error.copy_from_slice(piece_error);
                            } else {
                                merge_compensated(sum, error, piece, piece_error);
                            }
                        }
                    }
                }
            }
        }
        if let Some(error) = scratch.errors.last().filter(|_| compensated) {
            add_and_square(out, false, &[Weighted { values: &error[..at.len()], weight: 1.0 }], norms);
        }
    }
}

/// The weighted sum of buffers over the canonical 12-ary tree, into `out`; returns its Euclidean norm.
///
/// `sources` are leaves `0..N` of `(P)` numbers each, `weights` one for each or empty for 1 each; `out` is `(P)`. Bits depend on
/// nothing but the arguments.
///
/// # Errors
/// [`Error::NoBatches`] without sources, [`Error::Counts`] where lengths disagree.
///
/// # Examples
/// ```
/// use sphere_hierarchy::{Accumulation, reduce};
///
/// let (a, b) = ([1.0_f32, 2.0], [2.0_f32, 2.0]);
/// let mut sum = [0.0; 2];
/// let norm = reduce(&[&a, &b], &[], Accumulation::Plain, &mut sum)?;
/// assert_eq!((sum, norm), ([3.0, 4.0], 5.0));
/// # Ok::<(), sphere_hierarchy::Error>(())
/// ```
pub fn reduce<E: Element>(
    sources: &[&[E]],
    weights: &[f32],
    accumulation: Accumulation,
    out: &mut [f32],
) -> Result<f64> {
    let (pieces, sources) = leaves(sources, weights, out.len())?;
    let mut norms = vec![0.0; out.len().div_ceil(NORM_BLOCK)];
    fold_tiles(sources.len(), &pieces, &sources, PieceErrors(&[]), accumulation, out, &mut norms);
    Ok(norms.iter().sum::<f64>().sqrt())
}

/// As [`reduce`] with the same bits, on the threads of the current rayon pool: each owns whole tiles of the result.
///
/// # Errors
/// As [`reduce`].
pub fn reduce_on_threads<E: Element>(
    sources: &[&[E]],
    weights: &[f32],
    accumulation: Accumulation,
    out: &mut [f32],
) -> Result<f64> {
    let (pieces, sources) = leaves(sources, weights, out.len())?;
    let mut norms = vec![0.0; out.len().div_ceil(NORM_BLOCK)];
    // A few segments for each thread, so that one that starts late does not keep the others waiting.
    let n_segments = 4 * rayon::current_num_threads();
    let segment = out.len().div_ceil(n_segments).next_multiple_of(TILE).max(TILE);
    out.par_chunks_mut(segment).zip(norms.par_chunks_mut(segment / NORM_BLOCK)).enumerate().for_each(
        |(index, (out, norms))| {
            let at = index * segment..index * segment + out.len();
            let own: Vec<_> =
                sources.iter().map(|s| Weighted { values: &s.values[at.clone()], weight: s.weight }).collect();
            fold_tiles(own.len(), &pieces, &own, PieceErrors(&[]), accumulation, out, norms);
        },
    );
    Ok(norms.iter().sum::<f64>().sqrt())
}

/// Sources as leaves with their weights.
fn leaves<'a, E: Element>(
    sources: &[&'a [E]],
    weights: &[f32],
    len: usize,
) -> Result<(Vec<Piece>, Vec<Weighted<'a, E>>)> {
    if sources.is_empty() {
        return Err(Error::NoBatches);
    }
    if !weights.is_empty() && weights.len() != sources.len() {
        return Err(Error::Counts { what: "weights", expected: sources.len(), found: weights.len() });
    }
    if let Some(wrong) = sources.iter().find(|source| source.len() != len) {
        return Err(Error::Counts { what: "numbers of a source", expected: len, found: wrong.len() });
    }
    let weight = |i: usize| weights.get(i).copied().unwrap_or(1.0);
    let weighted = sources.iter().enumerate().map(|(i, values)| Weighted { values, weight: weight(i) });
    Ok(((0..sources.len()).map(Piece::leaf).collect(), weighted.collect()))
}
