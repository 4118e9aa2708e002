//! What computes the gradient of a micro-batch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::element::Element;

/// Time since any fixed moment. The crate reads no clock but the one it is given.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A clock, or none.
#[derive(Clone, Default)]
pub(crate) struct ClockSlot(pub(crate) Option<Clock>);

impl ClockSlot {
    pub(crate) fn now(&self) -> Option<Duration> {
        self.0.as_ref().map(|clock| clock())
    }

    /// Time since `start`, zero without a clock.
    pub(crate) fn since(&self, start: Option<Duration>) -> Duration {
        self.now().zip(start).map_or(Duration::ZERO, |(now, start)| now.saturating_sub(start))
    }
}

impl fmt::Debug for ClockSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock" } else { "no clock" })
    }
}

/// One try at the gradient of a micro-batch.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Number of the micro-batch in the step, from 0.
    pub batch: usize,
    /// 1, or 2 where the first try failed.
    pub number: u32,
    pub(crate) started: Option<Duration>,
    pub(crate) limit: Option<Duration>,
    pub(crate) clock: &'a ClockSlot,
}

impl Attempt<'_> {
    /// Whether the time for this try is over. A worker that takes long asks now and then, and returns early: what it returns late is
    /// not used. Always false without a clock or a limit.
    pub fn is_overdue(&self) -> bool {
        self.limit.is_some_and(|limit| self.clock.since(self.started) > limit)
    }
}

/// Computes gradients of micro-batches, many at a time.
///
/// The worker itself is what is shared, read-only, among threads: weights exist once. Each call owns the memory it writes to, so
/// there is nothing to lock.
///
/// # Contract
/// - `gradient` overwrites all of `out`, which holds rubbish on entry.
/// - The same batch gives the same bits, on whichever thread and however often: a try that failed is repeated elsewhere, and a run is
///   repeated by its seed.
/// - It may use rayon inside. It may panic: that is a failed try.
///
/// A wrong implementation adds to `out` as if it were zero:
/// ```compile_fail
/// for (out, x) in out.iter_mut().zip(x) { *out += x }   // wrong: what was in `out`?
/// ```
/// the right one sets it: `*out = *x`.
pub trait GradientWorker: Sync {
    /// What a gradient is computed from.
    type Batch: Sync;
    /// `f32`, or `half::bf16` at half the memory.
    type Element: Element;
    /// Why it may not be possible.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Parameters (P).
    fn n_parameters(&self) -> usize;

    /// What the gradient of a batch is multiplied by in the sum. Default 1.
    fn weight(&self, batch: &Self::Batch) -> f32 {
        let _ = batch;
        1.0
    }

    /// Writes the gradient of `batch` to `out`, `(P)`.
    ///
    /// # Errors
    /// As the worker defines: the try has failed.
    fn gradient(
        &self,
        batch: &Self::Batch,
        attempt: &Attempt<'_>,
        out: &mut [Self::Element],
    ) -> Result<(), Self::Error>;
}

/// As [`GradientWorker`], handing gradients over in buckets as backward passes finish them: what is finished is added while the rest
/// is being computed, and no micro-batch needs a whole gradient of its own.
pub trait StreamingWorker: Sync {
    /// What a gradient is computed from.
    type Batch: Sync;
    /// `f32`, or `half::bf16` at half the memory.
    type Element: Element;
    /// Why it may not be possible.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Parameters of each bucket; one after another they are the gradient.
    fn buckets(&self) -> Vec<usize>;

    /// As [`GradientWorker::weight`].
    fn weight(&self, batch: &Self::Batch) -> f32 {
        let _ = batch;
        1.0
    }

    /// Fills every bucket of `sink` once, in any order.
    ///
    /// # Errors
    /// As the worker defines: the try has failed.
    fn gradient(
        &self,
        batch: &Self::Batch,
        attempt: &Attempt<'_>,
        sink: &mut BucketSink<'_, Self::Element>,
    ) -> Result<(), Self::Error>;
}

/// Takes over what a bucket is filled with.
type Filled<'s, E> = dyn FnMut(usize, &mut dyn FnMut(&mut [E])) + 's;

/// Where a [`StreamingWorker`] puts its gradient.
pub struct BucketSink<'s, E> {
    pub(crate) filled: &'s mut Filled<'s, E>,
}

impl<E> BucketSink<'_, E> {
    /// Hands bucket `bucket` over: `fill` overwrites all of what it is given.
    ///
    /// # Panics
    /// If there is no such bucket or it was filled before.
    pub fn fill(&mut self, bucket: usize, fill: impl FnOnce(&mut [E])) {
        let mut fill = Some(fill);
        (self.filled)(bucket, &mut |out| {
            if let Some(fill) = fill.take() {
                fill(out);
            }
        });
    }
}

impl<E> fmt::Debug for BucketSink<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketSink")
    }
}

/// A [`GradientWorker`] as a stream of one bucket.
#[derive(Debug)]
pub(crate) struct Whole<'w, W>(pub(crate) &'w W);

impl<W: GradientWorker> StreamingWorker for Whole<'_, W> {
    type Batch = W::Batch;
    type Element = W::Element;
    type Error = W::Error;

    fn buckets(&self) -> Vec<usize> {
        vec![self.0.n_parameters()]
    }

    fn weight(&self, batch: &W::Batch) -> f32 {
        self.0.weight(batch)
    }

    fn gradient(
        &self,
        batch: &W::Batch,
        attempt: &Attempt<'_>,
        sink: &mut BucketSink<'_, W::Element>,
    ) -> Result<(), W::Error> {
        let mut done = Ok(());
        sink.fill(0, |out| done = self.0.gradient(batch, attempt, out));
        done
    }
}
