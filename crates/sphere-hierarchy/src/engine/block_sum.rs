//! The fold of one block, by one task.

use super::lane::{Finished, Lane, Partial};
use crate::element::Element;
use crate::fold::{Fold, Op, Piece};
use crate::reduce::kernel::Weighted;

/// The sums of a block of more than one leaf while it is computed, of one lane.
#[derive(Debug)]
pub(crate) struct BlockSum {
    fold: Fold,
    /// Of levels 1 up to the block's own.
    sums: Vec<Option<Partial>>,
}

impl BlockSum {
    /// For a block of `12^level` leaves, or its first `n_leaves`.
    pub(crate) fn new(level: u32, n_leaves: usize) -> Self {
        Self { fold: Fold::with_height(0, n_leaves, level), sums: (0..level).map(|_| None).collect() }
    }

    /// Adds leaf `index` of the block, or notes that it was dropped.
    pub(crate) fn push<E: Element>(&mut self, lane: &Lane<'_, E>, index: usize, leaf: Option<Weighted<'_, E>>) {
        let sums = &mut self.sums;
        self.fold.push(Piece::leaf(index), leaf.is_some(), |op| match (op, leaf) {
            (Op::Take { level, start }, Some(leaf)) => {
                sums[level as usize - 1].get_or_insert_with(|| lane.partial()).as_mut().add(start, &[leaf]);
            }
            _ => carry(sums, lane, op),
        });
    }

    /// The sum of the block, its leaves having been pushed.
    pub(crate) fn finish<E: Element>(mut self, lane: &Lane<'_, E>, n_leaves: usize) -> Finished<E> {
        let sums = &mut self.sums;
        self.fold.finish(n_leaves, |op| carry(sums, lane, op));
        match sums.last_mut().and_then(Option::take) {
            Some(sum) if self.fold.has_sum() => Finished::Sum(sum),
            _ => Finished::Absent,
        }
    }
}

fn carry<E: Element>(sums: &mut [Option<Partial>], lane: &Lane<'_, E>, op: Op) {
    let Op::Carry { level, start } = op else { return };
    let Some(sum) = sums[level as usize - 1].take() else { return };
    match &mut sums[level as usize] {
        to if start => *to = Some(sum),
        Some(to) => {
            to.as_mut().merge(false, &sum);
            lane.reuse(sum);
        }
        None => {}
    }
}
