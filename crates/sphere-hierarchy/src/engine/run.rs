//! Tasks, and what they hand on.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::{ArrayQueue, SegQueue};
use rayon::ScopeFifo;

use super::block_sum::BlockSum;
use super::lane::{Finished, Lane, LaneShape, LeafPool, Partial};
use super::spares::Spares;
use crate::config::OnFailure;
use crate::error::LeafFailure;
use crate::fold::{Fold, Piece};
use crate::reduce::Accumulation;
use crate::reduce::kernel::{Weighted, first_non_finite};
use crate::statistics::{Counters, SphereStatistics};
use crate::tree::width;
use krystal_math::permutation;
use krystal_math::rng::Purpose;

use crate::worker::{Attempt, BucketSink, ClockSlot, StreamingWorker};

/// What a run does, and where.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Leaves of the whole tree.
    pub(crate) n_leaves: usize,
    /// The first leaf that is computed here, and the one after the last.
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// Height of the tree.
    pub(crate) height: u32,
    /// Levels of a block.
    pub(crate) block_level: u32,
    pub(crate) threads: usize,
    /// Blocks that a task takes at a time at most. More than one where gradients are so short that taking a block costs more than
    /// adding it: then memory is no matter either.
    pub(crate) longest_run: usize,
    /// Whether no other rank takes part.
    pub(crate) is_alone: bool,
    pub(crate) accumulation: Accumulation,
    pub(crate) on_failure: OnFailure,
    pub(crate) accept_non_finite: bool,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) shuffle: Option<u64>,
}

impl Plan {
    fn first_block(&self) -> usize {
        self.first / width(self.block_level)
    }

    fn end_block(&self) -> usize {
        self.end.div_ceil(width(self.block_level))
    }

    /// Blocks that are computed here.
    pub(crate) fn n_blocks(&self) -> usize {
        self.end_block().saturating_sub(self.first_block())
    }

    /// Tasks that run at once.
    pub(crate) fn n_tasks(&self) -> usize {
        self.threads.min(self.n_blocks()).max(1)
    }

    /// Blocks that may be handed out and not yet added.
    fn window(&self) -> usize {
        let planned = self.n_tasks() + (self.n_tasks() - 1) * (self.height - self.block_level) as usize;
        if self.longest_run > 1 { planned.max(2 * self.n_tasks() * self.longest_run) } else { planned }
    }

    /// Blocks that a task takes at a time when `left` are left: few enough for the others to have as much to do.
    fn run(&self, left: usize) -> usize {
        (left / (8 * self.n_tasks())).clamp(1, self.longest_run)
    }
}

/// What a run leaves.
#[derive(Debug)]
pub(crate) struct Outcome<E> {
    /// Of each lane, what another rank has to add; nothing where the sum is complete.
    pub(crate) pieces: Vec<Vec<(Piece, Partial)>>,
    /// Micro-batches that were left out, in order.
    pub(crate) dropped: Vec<usize>,
    /// The first micro-batch that failed for good.
    pub(crate) failed: Option<(usize, u32, LeafFailure<E>)>,
    pub(crate) spheres: Vec<SphereStatistics>,
    pub(crate) counters: Counters,
}

/// A run over threads.
pub(crate) struct Engine<'e, W: StreamingWorker> {
    worker: &'e W,
    /// Micro-batches `first..end`.
    batches: &'e [W::Batch],
    plan: Plan,
    clock: &'e ClockSlot,
    lanes: Vec<Lane<'e, W::Element>>,
    leaves: Arc<LeafPool<'e, W::Element>>,
    /// Blocks handed out.
    claimed: AtomicUsize,
    /// Tasks that may still be started.
    permits: AtomicUsize,
    is_aborted: AtomicBool,
    /// Blocks whose next leaf has failed once.
    retries: ArrayQueue<Task>,
    /// What each task computed, when it ends.
    spheres: SegQueue<Vec<SphereStatistics>>,
    dropped: ArrayQueue<usize>,
    failed: ArrayQueue<(usize, u32, LeafFailure<W::Error>)>,
    counters: Counters,
    /// The order of blocks within one window of them, where it is shuffled.
    order: Vec<usize>,
}

/// A block on its way.
struct Task {
    block: usize,
    /// The next leaf, from the block's first.
    at: usize,
    try_number: u32,
    /// The thread on which the first try failed.
    avoid: Option<usize>,
    /// Of each lane; empty for a block of one leaf.
    sums: Vec<BlockSum>,
    /// Of each lane, whether the leaf's bucket has been handed on; empty for a single lane, which is not before all is well.
    delivered: Vec<bool>,
    busy: Duration,
}

impl<'e, W: StreamingWorker> Engine<'e, W> {
    pub(crate) fn new(
        worker: &'e W,
        batches: &'e [W::Batch],
        plan: Plan,
        clock: &'e ClockSlot,
        spares: &'e Spares,
        buckets: &[usize],
        mut out: &'e mut [f32],
    ) -> Self {
        let shape = LaneShape {
            fold: Fold::with_height(plan.first, plan.n_leaves, plan.height),
            first_block: plan.first_block(),
            block_level: plan.block_level,
            window: plan.window(),
            accumulation: plan.accumulation,
        };
        let longest = buckets.iter().copied().max().unwrap_or(0);
        let leaves = Arc::new(LeafPool::new(longest, plan.window() * buckets.len().max(1), spares));
        let mut lanes = Vec::with_capacity(buckets.len());
        for len in buckets {
            let root;
            (root, out) = out.split_at_mut(*len);
            lanes.push(Lane::new(shape.clone(), Arc::clone(&leaves), root));
        }
        let n_leaves = batches.len().max(1);
        Self {
            worker,
            batches,
            clock,
            lanes,
            leaves,
            claimed: AtomicUsize::new(plan.first_block()),
            permits: AtomicUsize::new(plan.n_tasks()),
            is_aborted: AtomicBool::new(false),
            retries: ArrayQueue::new(plan.window()),
            spheres: SegQueue::new(),
            dropped: ArrayQueue::new(n_leaves),
            failed: ArrayQueue::new(plan.window()),
            counters: Counters::default(),
            order: plan.shuffle.map_or(Vec::new(), |seed| permutation(plan.window(), seed, Purpose::Schedule, 0)),
            plan,
        }
    }

    /// Computes and adds every block.
    pub(crate) fn run(self) -> Outcome<W::Error> {
        if self.plan.n_tasks() == 1 {
            self.start(None);
        } else {
            rayon::in_place_scope_fifo(|scope| self.start(Some(scope)));
        }
        let mut dropped: Vec<usize> = std::iter::from_fn(|| self.dropped.pop()).collect();
        dropped.sort_unstable();
        let mut spheres: Vec<SphereStatistics> = std::iter::from_fn(|| self.spheres.pop()).flatten().collect();
        spheres.sort_by_key(|sphere| sphere.index);
        let failed = std::iter::from_fn(|| self.failed.pop()).min_by_key(|(batch, ..)| *batch);
        let complete = failed.is_none();
        let pieces = self
            .lanes
            .iter()
            .map(|lane| if complete { lane.finish(self.plan.end, self.plan.is_alone) } else { Vec::new() })
            .collect();
        let bytes = self.lanes.iter().map(Lane::bytes).sum::<usize>() + self.leaves.bytes();
        self.counters.buffer_bytes.store(bytes, Ordering::Relaxed);
        self.leaves.retire();
        self.lanes.iter().for_each(Lane::retire);
        Outcome { pieces, dropped, failed, spheres, counters: self.counters }
    }

    /// Starts as many tasks as there may be; without a scope, one, here.
    fn start<'s>(&'s self, scope: Option<&ScopeFifo<'s>>) {
        match scope {
            None if self.permit() => self.work(None),
            None => {}
            Some(scope) => self.start_more(scope),
        }
    }

    fn start_more<'s>(&'s self, scope: &ScopeFifo<'s>) {
        if self.permits.load(Ordering::Acquire) == 0 {
            return;
        }
        let n_ready = |claimed: usize| self.limit().saturating_sub(claimed) + self.retries.len();
        for _ in 0..n_ready(self.claimed.load(Ordering::Acquire)) {
            if self.is_aborted.load(Ordering::Relaxed) || !self.permit() {
                return;
            }
            scope.spawn_fifo(move |scope| self.work(Some(scope)));
        }
    }

    fn permit(&self) -> bool {
        self.permits.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_ok()
    }

    /// The block after the last that may be handed out now: memory bounds how far tasks run ahead of the slowest.
    fn limit(&self) -> usize {
        let added = self.lanes.iter().map(|lane| lane.added.load(Ordering::Acquire)).min().unwrap_or(0);
        let (first, window) = (self.plan.first_block(), self.plan.window());
        // Shuffled blocks are handed out one window after another, so that none is further ahead than memory reaches.
        let limit =
            if self.order.is_empty() { added + window } else { first + ((added - first) / window + 1) * window };
        limit.min(self.plan.end_block())
    }

    /// The block that is handed out in place `place`.
    fn block_at(&self, place: usize) -> usize {
        let (first, end) = (self.plan.first_block(), self.plan.end_block());
        let Some(order) = (!self.order.is_empty()).then_some(&self.order) else { return place };
        let group = first + (place - first) / order.len() * order.len();
        // The last window is cut short: of its places those that exist, in the shuffled order.
        let mut blocks = order.iter().map(|at| group + at).filter(|block| *block < end);
        blocks.nth(place - group).unwrap_or(place)
    }

    fn has_work(&self) -> bool {
        let is_ready = || self.claimed.load(Ordering::Acquire) < self.limit() || !self.retries.is_empty();
        !self.is_aborted.load(Ordering::Relaxed) && is_ready()
    }

    /// A second try that waits: of what failed on another thread, or of anything.
    fn claim_retry(&self, anything: bool) -> Option<Task> {
        let thread = rayon::current_thread_index();
        for _ in 0..self.retries.len() {
            let task = self.retries.pop()?;
            if anything || task.avoid != thread {
                return Some(task);
            }
            let _ = self.retries.push(task);
        }
        None
    }

    /// Places of the next blocks that may be handed out; empty where there are none.
    fn claim(&self) -> Range<usize> {
        let (limit, end) = (self.limit(), self.plan.end_block());
        let run = |first: usize| if self.order.is_empty() { self.plan.run(end - first) } else { 1 };
        let claimed = self.claimed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |first| {
            (first < limit).then(|| (first + run(first)).min(limit))
        });
        claimed.map_or(0..0, |first| first..(first + run(first)).min(limit))
    }

    fn task(&self, block: usize) -> Task {
        let n_leaves = self.leaves(block).len();
        let level = self.plan.block_level;
        let sums = if level == 0 { 0 } else { self.lanes.len() };
        Task {
            block,
            at: 0,
            try_number: 1,
            avoid: None,
            sums: (0..sums).map(|_| BlockSum::new(level, n_leaves)).collect(),
            delivered: vec![false; if self.lanes.len() == 1 { 0 } else { self.lanes.len() }],
            busy: Duration::ZERO,
        }
    }

    /// Leaves of a block, by number in the step.
    fn leaves(&self, block: usize) -> Range<usize> {
        let width = width(self.plan.block_level);
        let first = block.saturating_mul(width).max(self.plan.first);
        first..block.saturating_add(1).saturating_mul(width).min(self.plan.end)
    }

    /// Computes block after block until there is none to be had.
    fn work<'s>(&'s self, scope: Option<&ScopeFifo<'s>>) {
        let mut spheres = Vec::new();
        let mut outbox = Vec::new();
        loop {
            if self.is_aborted.load(Ordering::Relaxed) {
                self.permits.fetch_add(1, Ordering::AcqRel);
                break;
            }
            if let Some(task) = self.claim_retry(false) {
                spheres.extend(self.compute(task, None));
            } else {
                let places = self.claim();
                if !places.is_empty() {
                    for place in places {
                        let task = self.task(self.block_at(place));
                        spheres.extend(self.compute(task, Some(&mut outbox)));
                    }
                    if let (Some(lane), false) = (self.lanes.first(), outbox.is_empty()) {
                        lane.deliver(outbox.drain(..));
                    }
                } else if let Some(task) = self.claim_retry(true) {
                    spheres.extend(self.compute(task, None));
                } else {
                    self.permits.fetch_add(1, Ordering::AcqRel);
                    // Room may have been made between the two lines above, when we still held the permit.
                    if !(self.has_work() && self.permit()) {
                        break;
                    }
                }
            }
            scope.into_iter().for_each(|scope| self.start_more(scope));
        }
        self.spheres.push(spheres);
    }

    /// Computes a block, or as much of it as precedes a leaf that fails for the first time: then there is nothing to report.
    fn compute(&self, mut task: Task, mut outbox: Option<&mut Outbox<W::Element>>) -> Option<SphereStatistics> {
        let started = self.clock.now();
        let leaves = self.leaves(task.block);
        while task.at < leaves.len() {
            let batch = leaves.start + task.at;
            if let Err(failure) = self.leaf(batch, &mut task, outbox.as_deref_mut()) {
                self.counters.count(&failure);
                if task.try_number == 1 {
                    task.try_number = 2;
                    task.avoid = rayon::current_thread_index();
                    task.busy += self.clock.since(started);
                    self.counters.retried.fetch_add(1, Ordering::Relaxed);
                    let _ = self.retries.push(task);
                    return None;
                }
                if self.plan.on_failure == OnFailure::Fail {
                    let _ = self.failed.push((batch, task.try_number, failure));
                    self.is_aborted.store(true, Ordering::Relaxed);
                    return None;
                }
                let _ = self.dropped.push(batch);
                self.drop_leaf(&mut task, outbox.as_deref_mut());
            }
            task.at += 1;
            task.try_number = 1;
            task.avoid = None;
            task.delivered.fill(false);
        }
        let sphere = SphereStatistics {
            index: task.block,
            first_batch: leaves.start,
            n_batches: leaves.len(),
            seconds: (task.busy + self.clock.since(started)).as_secs_f64(),
            thread: rayon::current_thread_index().unwrap_or(0),
        };
        for (lane, sum) in self.lanes.iter().zip(task.sums) {
            lane.deliver([(task.block, sum.finish(lane, leaves.len()))]);
        }
        Some(sphere)
    }

    /// The gradient of one micro-batch, handed on bucket by bucket. Nothing is handed on of a bucket that is not as it should be.
    fn leaf(
        &self,
        batch: usize,
        task: &mut Task,
        mut outbox: Option<&mut Outbox<W::Element>>,
    ) -> Result<(), LeafFailure<W::Error>> {
        let data = &self.batches[batch - self.plan.first];
        let weight = self.worker.weight(data);
        let attempt = Attempt {
            batch,
            number: task.try_number,
            started: self.clock.now(),
            limit: self.plan.time_limit,
            clock: self.clock,
        };
        let (at, block) = (task.at, task.block);
        let (sums, delivered) = (&mut task.sums, &mut task.delivered);
        let mut seen = Seen::new(self.lanes.len());
        let mut wrong = None;
        // Of a single bucket what is wrong with the whole try is known before it is handed on.
        let holds_back = self.lanes.len() == 1;
        let mut held = None;
        let mut in_place = false;
        let mut filled = |bucket: usize, fill: &mut dyn FnMut(&mut [W::Element])| {
            let lane = &self.lanes[bucket];
            assert!(seen.insert(bucket), "bucket {bucket} is filled twice");
            let mut check = |values: &[W::Element]| {
                if wrong.is_none() && !self.plan.accept_non_finite {
                    let before = || self.lanes[..bucket].iter().map(|lane| lane.len).sum::<usize>();
                    wrong = first_non_finite(values).map(|at| before() + at);
                }
            };
            if holds_back && self.plan.n_leaves == 1 {
                in_place = lane.in_place(|values| {
                    fill(values);
                    check(values);
                });
                if in_place {
                    return;
                }
            }
            let mut values = lane.leaf();
            fill(&mut values);
            check(&values);
            if holds_back {
                held = Some(values);
            } else if wrong.is_none() && !std::mem::replace(&mut delivered[bucket], true) {
                self.hand_on((bucket, block, at), sums, values, weight, None);
            } else {
                lane.reuse_leaf(values);
            }
        };
        let mut sink = BucketSink { filled: &mut filled };
        let tried = catch_unwind(AssertUnwindSafe(|| self.worker.gradient(data, &attempt, &mut sink)));
        let elapsed = self.clock.since(attempt.started);
        let failure = match tried {
            Err(panic) => Some(LeafFailure::Panicked { message: message_of(&*panic) }),
            Ok(Err(source)) => Some(LeafFailure::Refused { source }),
            Ok(Ok(())) => match (wrong, seen.first_missing()) {
                (Some(parameter), _) => Some(LeafFailure::NonFinite { parameter }),
                (None, Some(bucket)) => Some(LeafFailure::BucketMissing { bucket }),
                (None, None) => None,
            },
        };
        let failure = match self.plan.time_limit {
            // What has been handed on already is right, however late the rest is.
            Some(limit) if failure.is_none() && elapsed > limit && holds_back => {
                Some(LeafFailure::Overdue { elapsed, limit })
            }
            _ => failure,
        };
        match (failure, held) {
            (Some(failure), held) => {
                held.into_iter().for_each(|values| self.lanes[0].reuse_leaf(values));
                Err(failure)
            }
            (None, Some(values)) => {
                self.hand_on((0, block, at), sums, values, weight, outbox.take());
                Ok(())
            }
            (None, None) => {
                if in_place {
                    self.lanes[0].deliver([(block, Finished::InPlace { weight })]);
                }
                Ok(())
            }
        }
    }

    /// Hands on what a leaf filled a bucket with; through the outbox where there is one.
    fn hand_on(
        &self,
        (bucket, block, at): (usize, usize, usize),
        sums: &mut [BlockSum],
        values: Vec<W::Element>,
        weight: f32,
        outbox: Option<&mut Outbox<W::Element>>,
    ) {
        let lane = &self.lanes[bucket];
        match (sums.get_mut(bucket), outbox) {
            (None, Some(outbox)) => outbox.push((block, Finished::Leaf { values, weight })),
            (None, None) => lane.deliver([(block, Finished::Leaf { values, weight })]),
            (Some(sum), _) => {
                sum.push(lane, at, Some(Weighted { values: &values[..], weight }));
                lane.reuse_leaf(values);
            }
        }
    }

    fn drop_leaf(&self, task: &mut Task, mut outbox: Option<&mut Outbox<W::Element>>) {
        for (bucket, lane) in self.lanes.iter().enumerate() {
            match (task.sums.get_mut(bucket), outbox.as_deref_mut()) {
                (None, Some(outbox)) => outbox.push((task.block, Finished::Absent)),
                (None, None) => lane.deliver([(task.block, Finished::Absent)]),
                (Some(sum), _) => sum.push(lane, task.at, None),
            }
        }
    }
}

/// Blocks of the only lane that are finished and have not been handed on.
type Outbox<E> = Vec<(usize, Finished<E>)>;

/// Which buckets a try has filled: one bit each for the first 64, which is all that most have, so that nothing is allocated.
struct Seen {
    n: usize,
    first: u64,
    others: Vec<bool>,
}

impl Seen {
    fn new(n: usize) -> Self {
        Self { n, first: 0, others: vec![false; n.saturating_sub(64)] }
    }

    /// Whether the bucket was missing until now.
    fn insert(&mut self, bucket: usize) -> bool {
        if bucket >= 64 {
            return !std::mem::replace(&mut self.others[bucket - 64], true);
        }
        let was = self.first >> bucket & 1;
        self.first |= 1 << bucket;
        was == 0
    }

    fn first_missing(&self) -> Option<usize> {
        let missing = self.first.trailing_ones() as usize;
        if missing < 64 {
            return (missing < self.n).then_some(missing);
        }
        self.others.iter().position(|seen| !seen).map(|at| at + 64)
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
