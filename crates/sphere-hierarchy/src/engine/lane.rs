//! Adding up what tasks finish, bucket by bucket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use super::spares::Spares;
use crate::element::Element;
use crate::fold::{Fold, Op, Piece};
use crate::reduce::Accumulation;
use crate::reduce::kernel::{Weighted, add, add_compensated, merge_compensated};
use crate::tree::ARITY;

/// A sum of leaves; `error` is empty where it is not kept.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    pub(crate) sum: Vec<f32>,
    pub(crate) error: Vec<f32>,
}

impl Partial {
    pub(crate) fn as_mut(&mut self) -> Sum<'_> {
        Sum { sum: &mut self.sum, error: &mut self.error }
    }
}

/// A partial sum wherever it lies.
#[derive(Debug)]
pub(crate) struct Sum<'a> {
    sum: &'a mut [f32],
    error: &'a mut [f32],
}

impl Sum<'_> {
    pub(crate) fn add<E: Element>(&mut self, start: bool, sources: &[Weighted<'_, E>]) {
        if self.error.is_empty() {
            add(self.sum, start, sources);
        } else {
            add_compensated(self.sum, self.error, start, sources);
        }
    }

    pub(crate) fn merge(&mut self, start: bool, other: &Partial) {
        if start {
            self.sum.copy_from_slice(&other.sum);
            self.error.copy_from_slice(&other.error);
        } else if self.error.is_empty() {
            add(self.sum, false, &[Weighted { values: &other.sum, weight: 1.0 }]);
        } else {
            merge_compensated(self.sum, self.error, other.sum.iter().copied(), &other.error);
        }
    }
}

/// What has become of a block.
#[derive(Debug)]
pub(crate) enum Finished<E> {
    /// The gradient of its only leaf.
    Leaf { values: Vec<E>, weight: f32 },
    /// The gradient of the only leaf of the tree lies where the result goes.
    InPlace { weight: f32 },
    /// The sum of its leaves.
    Sum(Partial),
    /// All its leaves were dropped.
    Absent,
}

/// Memory for gradients of micro-batches, of any bucket.
#[derive(Debug)]
pub(crate) struct LeafPool<'e, E> {
    /// The longest bucket.
    longest: usize,
    free: ArrayQueue<Vec<E>>,
    /// Leaves that there are.
    n_leaves: AtomicUsize,
    spares: &'e Spares,
}

impl<'e, E: Element> LeafPool<'e, E> {
    pub(crate) fn new(longest: usize, most: usize, spares: &'e Spares) -> Self {
        Self { longest, free: ArrayQueue::new(most), n_leaves: AtomicUsize::new(0), spares }
    }

    /// Memory for `len` numbers; holds rubbish.
    fn take(&self, len: usize) -> Vec<E> {
        if self.longest == 0 {
            return Vec::new();
        }
        let mut leaf = self.free.pop().unwrap_or_else(|| {
            self.n_leaves.fetch_add(1, Ordering::Relaxed);
            self.spares.take(self.longest).and_then(E::from_spare).unwrap_or_else(|| Vec::with_capacity(self.longest))
        });
        leaf.resize(len, E::default());
        leaf
    }

    fn put_back(&self, leaf: Vec<E>) {
        // A full queue cannot be: the window bounds what exists.
        if self.longest > 0 {
            let _ = self.free.push(leaf);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.n_leaves.load(Ordering::Relaxed) * self.longest * size_of::<E>()
    }

    /// Keeps what was used for the next step.
    pub(crate) fn retire(&self) {
        std::iter::from_fn(|| self.free.pop()).filter_map(E::into_spare).for_each(|leaf| self.spares.keep(leaf));
    }
}

/// One bucket: its memory, what waits to be added, and the sum so far.
#[derive(Debug)]
pub(crate) struct Lane<'e, E> {
    pub(crate) len: usize,
    accumulation: Accumulation,
    /// Empty while someone is adding.
    spine: ArrayQueue<Box<Spine<'e, E>>>,
    /// Blocks that were finished while someone was adding, as many as were delivered at once.
    finished: ArrayQueue<Vec<(usize, Finished<E>)>>,
    leaves: Arc<LeafPool<'e, E>>,
    partials: ArrayQueue<Partial>,
    /// Blocks added.
    pub(crate) added: AtomicUsize,
    /// Numbers in sums that there are.
    n_in_sums: AtomicUsize,
}

/// The sum so far.
#[derive(Debug)]
pub(crate) struct Spine<'e, E> {
    fold: Fold,
    /// The level of a block's node.
    level: u32,
    next: usize,
    /// Blocks from `next` that are finished and have not been added.
    waiting: VecDeque<Option<Finished<E>>>,
    /// Of levels 1 up to the one below the root.
    sums: Vec<Option<Partial>>,
    root: &'e mut [f32],
    root_error: Vec<f32>,
    /// What belongs to nodes that begin on another rank.
    pub(crate) pieces: Vec<(Piece, Partial)>,
    /// What a block asks for; empty between blocks.
    ops: Vec<Op>,
    /// Leaves of one sphere that are to be added in one pass; empty between calls.
    leaves: Vec<(Vec<E>, f32)>,
}

/// What a lane starts from.
#[derive(Debug, Clone)]
pub(crate) struct LaneShape {
    pub(crate) fold: Fold,
    pub(crate) first_block: usize,
    pub(crate) block_level: u32,
    /// Most blocks that are handed out and not added.
    pub(crate) window: usize,
    pub(crate) accumulation: Accumulation,
}

impl<'e, E: Element> Lane<'e, E> {
    pub(crate) fn new(shape: LaneShape, leaves: Arc<LeafPool<'e, E>>, root: &'e mut [f32]) -> Self {
        let LaneShape { fold, first_block, block_level, window, accumulation } = shape;
        let (len, height) = (root.len(), fold.root() as usize);
        let compensated = accumulation == Accumulation::Compensated;
        let lane = Self {
            len,
            accumulation,
            spine: ArrayQueue::new(1),
            finished: ArrayQueue::new(window),
            leaves,
            partials: ArrayQueue::new(window + 2 * height),
            added: AtomicUsize::new(first_block),
            n_in_sums: AtomicUsize::new(0),
        };
        let spine = Spine {
            fold,
            level: block_level,
            next: first_block,
            waiting: VecDeque::with_capacity(window),
            sums: (1..height).map(|_| None).collect(),
            root_error: vec![0.0; if compensated { len } else { 0 }],
            root,
            pieces: Vec::new(),
            ops: Vec::new(),
            leaves: Vec::new(),
        };
        let _ = lane.spine.push(Box::new(spine));
        lane
    }

    /// Memory for a leaf; holds rubbish.
    pub(crate) fn leaf(&self) -> Vec<E> {
        self.leaves.take(self.len)
    }

    pub(crate) fn reuse_leaf(&self, leaf: Vec<E>) {
        self.leaves.put_back(leaf);
    }

    /// Memory for a sum; holds rubbish.
    pub(crate) fn partial(&self) -> Partial {
        self.partials.pop().unwrap_or_else(|| {
            let buffer = |len: usize| self.leaves.spares.take(len).unwrap_or_else(|| vec![0.0; len]);
            let compensated = self.accumulation == Accumulation::Compensated;
            let error = if compensated { buffer(self.len) } else { Vec::new() };
            let partial = Partial { sum: buffer(self.len), error };
            self.n_in_sums.fetch_add(partial.sum.len() + partial.error.len(), Ordering::Relaxed);
            partial
        })
    }

    pub(crate) fn reuse(&self, partial: Partial) {
        let _ = self.partials.push(partial);
    }

    /// Bytes of sums that there were at once; the result is not among them.
    pub(crate) fn bytes(&self) -> usize {
        self.n_in_sums.load(Ordering::Relaxed) * size_of::<f32>()
    }

    /// Keeps what was used for the next step.
    pub(crate) fn retire(&self) {
        for partial in std::iter::from_fn(|| self.partials.pop()) {
            self.leaves.spares.keep(partial.sum);
            self.leaves.spares.keep(partial.error);
        }
    }

    /// Takes over finished blocks and adds what can be added, unless someone is at it: then they will.
    pub(crate) fn deliver(&self, blocks: impl IntoIterator<Item = (usize, Finished<E>)>) {
        let mut blocks = Some(blocks);
        loop {
            let Some(mut spine) = self.spine.pop() else {
                let Some(blocks) = blocks.take() else { return };
                let delivered = self.finished.push(blocks.into_iter().collect());
                debug_assert!(delivered.is_ok(), "the window bounds what is finished");
                continue;
            };
            let late = std::iter::from_fn(|| self.finished.pop()).flatten();
            blocks.take().into_iter().flatten().chain(late).for_each(|(block, done)| spine.accept(block, done));
            spine.advance(self);
            self.added.store(spine.next, Ordering::Release);
            let _ = self.spine.push(spine);
            // Whoever delivered while the spine was away has left it to us.
            if self.finished.is_empty() {
                return;
            }
        }
    }

    /// Lets `write` fill the result itself, as a tree of one leaf can: its gradient needs no memory but that. Returns whether it did.
    pub(crate) fn in_place(&self, write: impl FnOnce(&mut [E])) -> bool {
        let Some(spine) = self.spine.pop() else { return false };
        let fits = E::within(spine.root).map(write).is_some();
        let _ = self.spine.push(spine);
        fits
    }

    /// After the last block before leaf `end`: the rest of the tree. Alone, the sum is in the result then; among other ranks the
    /// pieces are returned that have to be put together.
    pub(crate) fn finish(&self, end: usize, is_alone: bool) -> Vec<(Piece, Partial)> {
        let Some(mut spine) = self.spine.pop() else { return Vec::new() };
        spine.finish(self, end, is_alone);
        spine.pieces
    }
}

impl<E: Element> Spine<'_, E> {
    fn accept(&mut self, block: usize, finished: Finished<E>) {
        let place = block - self.next;
        if place >= self.waiting.len() {
            self.waiting.resize_with(place + 1, || None);
        }
        self.waiting[place] = Some(finished);
    }

    /// Adds every block whose predecessors have been added: leaves of one sphere in one pass over its sum.
    fn advance(&mut self, lane: &Lane<'_, E>) {
        let (mut into, mut into_start) = (0, false);
        while matches!(self.waiting.front(), Some(Some(_))) {
            let Some(Some(mut finished)) = self.waiting.pop_front() else { break };
            let piece = Piece::node(self.level, self.next);
            self.next += 1;
            let is_present = !matches!(finished, Finished::Absent);
            let mut ops = std::mem::take(&mut self.ops);
            self.fold.push(piece, is_present, |op| ops.push(op));
            for op in ops.drain(..) {
                match (op, &mut finished) {
                    (Op::Take { level, start }, Finished::Leaf { values, weight }) => {
                        if start {
                            self.add_leaves(lane, into, into_start);
                        }
                        if self.leaves.is_empty() {
                            (into, into_start) = (level, start);
                        }
                        self.leaves.push((std::mem::take(values), *weight));
                    }
                    (Op::Take { .. }, Finished::InPlace { weight }) => {
                        self.root_error.fill(0.0);
                        self.root.iter_mut().for_each(|x| *x *= *weight);
                    }
                    (Op::Take { level, start }, Finished::Sum(sum)) => {
                        self.take(lane, level, start, std::mem::take(sum));
                    }
                    (Op::Loose { piece }, Finished::Leaf { values, weight }) => {
                        let mut partial = lane.partial();
                        partial.as_mut().add(true, &[Weighted { values: &values[..], weight: *weight }]);
                        lane.reuse_leaf(std::mem::take(values));
                        self.pieces.push((piece, partial));
                    }
                    (Op::Loose { piece }, Finished::Sum(sum)) => self.pieces.push((piece, std::mem::take(sum))),
                    (Op::Take { .. } | Op::Loose { .. }, Finished::Absent | Finished::InPlace { .. }) => {}
                    (Op::Carry { .. } | Op::Release { .. }, _) => {
                        self.add_leaves(lane, into, into_start);
                        self.close(lane, op);
                    }
                }
            }
            self.ops = ops;
        }
        self.add_leaves(lane, into, into_start);
    }

    /// Adds the leaves that were put together, at most twelve: the children of one sphere.
    fn add_leaves(&mut self, lane: &Lane<'_, E>, level: u32, start: bool) {
        let mut leaves = std::mem::take(&mut self.leaves);
        let mut sources = [Weighted { values: &[][..], weight: 0.0 }; ARITY];
        for (source, (values, weight)) in sources.iter_mut().zip(&leaves) {
            *source = Weighted { values, weight: *weight };
        }
        if !leaves.is_empty() {
            self.sum(lane, level).add(start, &sources[..leaves.len()]);
        }
        leaves.drain(..).for_each(|(values, _)| lane.reuse_leaf(values));
        self.leaves = leaves;
    }

    /// The accumulator of a level.
    fn sum(&mut self, lane: &Lane<'_, E>, level: u32) -> Sum<'_> {
        if level == self.fold.root() {
            return Sum { sum: self.root, error: &mut self.root_error };
        }
        self.sums[level as usize - 1].get_or_insert_with(|| lane.partial()).as_mut()
    }

    fn take(&mut self, lane: &Lane<'_, E>, level: u32, start: bool, sum: Partial) {
        if start && level < self.fold.root() {
            // The memory moves instead of the numbers.
            if let Some(old) = self.sums[level as usize - 1].replace(sum) {
                lane.reuse(old);
            }
            return;
        }
        self.sum(lane, level).merge(start, &sum);
        lane.reuse(sum);
    }

    /// Carries or releases a complete accumulator.
    fn close(&mut self, lane: &Lane<'_, E>, op: Op) {
        match op {
            Op::Carry { level, start } => {
                if let Some(sum) = self.sums[level as usize - 1].take() {
                    self.take(lane, level + 1, start, sum);
                }
            }
            Op::Release { level, piece } if level == self.fold.root() => {
                let sum = Partial { sum: self.root.to_vec(), error: self.root_error.clone() };
                self.pieces.push((piece, sum));
            }
            Op::Release { level, piece } => {
                self.pieces.extend(self.sums[level as usize - 1].take().map(|sum| (piece, sum)));
            }
            Op::Take { .. } | Op::Loose { .. } => {}
        }
    }

    fn finish(&mut self, lane: &Lane<'_, E>, end: usize, is_alone: bool) {
        let mut fold = self.fold.clone();
        fold.finish(end, |op| self.close(lane, op));
        if !is_alone {
            fold.release(|op| self.close(lane, op));
            return;
        }
        if !fold.has_sum() {
            self.root.fill(0.0);
        } else if !self.root_error.is_empty() {
            add(self.root, false, &[Weighted { values: &self.root_error, weight: 1.0 }]);
        }
    }
}
