//! What an allocator counts is what the formula says. One test, alone in its process: the count is of the whole process.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use peak_alloc::PeakAlloc;
use sphere_hierarchy::{
    ARITY, Attempt, BucketSink, GradientWorker, SphereConfig, SphereHierarchy, StreamingWorker, peak_buffers,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Its first micro-batch is the last to be finished of all that fit into memory with it: the worst case.
struct Straggling {
    n: usize,
    n_others: usize,
    done: AtomicUsize,
}

impl Straggling {
    fn wait(&self, batch: usize) {
        while batch == 0 && self.done.load(Ordering::Acquire) < self.n_others {
            std::thread::yield_now();
        }
        self.done.fetch_add(1, Ordering::AcqRel);
    }
}

impl GradientWorker for Straggling {
    type Batch = ();
    type Element = f32;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        self.n
    }

    fn gradient(&self, (): &(), attempt: &Attempt<'_>, out: &mut [f32]) -> Result<(), Infallible> {
        out.fill(1.0);
        self.wait(attempt.batch);
        Ok(())
    }
}

/// The same in buckets.
struct InBuckets(Straggling, usize);

impl StreamingWorker for InBuckets {
    type Batch = ();
    type Element = f32;
    type Error = Infallible;

    fn buckets(&self) -> Vec<usize> {
        vec![self.0.n / self.1; self.1]
    }

    fn gradient(&self, (): &(), _: &Attempt<'_>, sink: &mut BucketSink<'_, f32>) -> Result<(), Infallible> {
        (0..self.1).for_each(|bucket| sink.fill(bucket, |out| out.fill(1.0)));
        Ok(())
    }
}

/// Bytes of a run at its peak, and what the run says of itself.
fn peak(n: usize, depth: u32, threads: usize) -> (usize, usize) {
    let n_batches = ARITY.pow(depth);
    let config = SphereConfig { threads: Some(threads), depth: Some(depth), ..SphereConfig::default() };
    let mut spheres = SphereHierarchy::new(config).unwrap();
    let tasks = threads.min(n_batches);
    let n_others = tasks - 1 + (tasks - 1) * depth as usize;
    let worker = Straggling { n, n_others, done: AtomicUsize::new(0) };
    let batches = vec![(); n_batches];
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let found = spheres.run(&worker, &batches).unwrap();
    assert!(found.gradient.iter().all(|x| *x == n_batches as f32));
    (ALLOCATOR.peak_usage() - before, found.statistics.buffer_bytes)
}

#[test]
fn peak_memory_is_what_the_formula_says() {
    println!("{:>5} {:>7} {:>8} {:>12} {:>12}", "depth", "threads", "buffers", "formula", "counted");
    for depth in 0..=4 {
        // Long enough to dwarf what queues round up to, short enough for twenty thousand leaves.
        let n = if depth == 4 { 1 << 14 } else { 1 << 18 };
        for threads in [1, 2, 4] {
            let buffers = peak_buffers(ARITY.pow(depth), threads);
            let expected_threads = threads.min(ARITY.pow(depth));
            assert_eq!(buffers, expected_threads * (depth as usize + 1));
            // Without parameters the same run has only its bookkeeping.
            let (bookkeeping, _) = peak(0, depth, threads);
            let (counted, reported) = peak(n, depth, threads);
            let (counted, formula) = (counted.saturating_sub(bookkeeping), buffers * n * size_of::<f32>());
            println!("{depth:>5} {threads:>7} {buffers:>8} {formula:>12} {counted:>12}");
            assert_eq!(reported, formula, "depth {depth}, {threads} threads");
            // Threads keep queues of their own, and the bookkeeping is largest at the end, when micro-batches may be gone.
            let slack = 65_536 + n_batches_bytes(depth);
            assert!(counted.abs_diff(formula) <= slack, "depth {depth}, {threads} threads: {counted} for {formula}");
        }
    }
    // 1,885 gradients, one for each sphere, against eight.
    assert_eq!((peak_buffers(1_728, 2), sphere_hierarchy::count_at_depth(3).unwrap()), (8, 1_885));
    // Where there are as many threads as micro-batches, a gradient for each sphere would be less.
    assert_eq!((peak_buffers(12, 12), sphere_hierarchy::count_at_depth(1).unwrap()), (24, 13));

    // In buckets, one thread: the result, and one bucket at a time.
    let (n, n_buckets) = (1 << 18, 64);
    let worker = InBuckets(Straggling { n, n_others: 0, done: AtomicUsize::new(0) }, n_buckets);
    let mut spheres = SphereHierarchy::new(SphereConfig { threads: Some(1), ..SphereConfig::default() }).unwrap();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    spheres.run_streaming(&worker, &[(); 12]).unwrap();
    let counted = ALLOCATOR.peak_usage() - before;
    println!("in buckets: {counted} bytes for a gradient of {}", n * 4);
    let formula = (n + n / n_buckets) * size_of::<f32>();
    // Queues take about 2 KiB a bucket.
    assert!(counted.abs_diff(formula) <= n_buckets * 2_560, "{counted} for {formula}");
}

/// Bytes of bookkeeping for the micro-batches of a depth.
fn n_batches_bytes(depth: u32) -> usize {
    ARITY.pow(depth) * size_of::<sphere_hierarchy::SphereStatistics>()
}
