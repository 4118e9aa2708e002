//! The hierarchy of spheres: what a user holds.

use crate::collective::{Collective, Local};
use crate::config::{OnFailure, SphereConfig};
use crate::distributed::add_across;
use crate::engine::{Engine, Outcome, Plan, Spares};
use crate::error::{Error, LeafFailure, RunError};
use crate::reduce::kernel::{NORM_BLOCK, squares};
use crate::statistics::{SphereStatistics, Statistics};
use crate::tree::{choose_depth, height, width};
use crate::worker::{Clock, ClockSlot, GradientWorker, StreamingWorker, Whole};

/// Micro-batches that a thread takes at a time at most, and the bytes of their gradients: adding so few takes no longer than handing
/// one micro-batch to a thread.
const LONGEST_RUN: usize = 16;
const SHORT_BYTES: usize = 1 << 14;

/// The gradient of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduction {
    /// The weighted sum over micro-batches, `(P)`.
    pub gradient: Vec<f32>,
    /// Its Euclidean norm.
    pub norm: f64,
    /// Micro-batches that failed and were left out, in order.
    pub dropped: Vec<usize>,
    /// What it took.
    pub statistics: Statistics,
}

/// Computes gradients of micro-batches on threads, and on ranks, and adds them over the canonical 12-ary tree.
///
/// # Examples
/// ```
/// use sphere_hierarchy::{Attempt, GradientWorker, SphereConfig, SphereHierarchy};
///
/// /// Least squares: `d/dw (w x - y)^2`.
/// struct Line(f32);
///
/// impl GradientWorker for Line {
///     type Batch = (f32, f32);
///     type Element = f32;
///     type Error = std::convert::Infallible;
///
///     fn n_parameters(&self) -> usize {
///         1
///     }
///
///     fn gradient(&self, (x, y): &(f32, f32), _: &Attempt<'_>, out: &mut [f32]) -> Result<(), Self::Error> {
///         out[0] = 2.0 * (self.0 * x - y) * x;
///         Ok(())
///     }
/// }
///
/// let mut spheres = SphereHierarchy::new(SphereConfig::default())?;
/// let step = spheres.run(&Line(0.5), &[(1.0, 2.0), (2.0, 1.0), (3.0, 0.0)])?;
/// assert_eq!(step.gradient, [6.0]);
/// println!("{}", step.statistics);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct SphereHierarchy {
    config: SphereConfig,
    pool: Option<rayon::ThreadPool>,
    clock: ClockSlot,
    /// Of the last run.
    seconds_per_batch: Option<f64>,
    spares: Spares,
}

impl SphereHierarchy {
    /// A hierarchy; where `config` names a number of threads it starts them.
    ///
    /// # Errors
    /// [`Error::NoThreads`], [`Error::DepthTooLarge`], [`Error::Threads`].
    pub fn new(config: SphereConfig) -> Result<Self, Error> {
        config.validate()?;
        let start = |threads: usize| {
            let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            built.map_err(|source| Error::Threads { threads, source })
        };
        // One thread needs no pool: it is the one that calls.
        let pool = config.threads.filter(|threads| *threads > 1).map(start).transpose()?;
        Ok(Self { config, pool, clock: ClockSlot::default(), seconds_per_batch: None, spares: Spares::default() })
    }

    /// Measures times by this clock, which time limits and a chosen depth rest on.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = ClockSlot(Some(clock));
        self
    }

    /// The settings.
    pub fn config(&self) -> &SphereConfig {
        &self.config
    }

    /// Takes a gradient back whose numbers are no longer needed: the next step writes to its memory instead of asking the system for
    /// more, as it does with all other buffers of the last step.
    pub fn recycle(&mut self, gradient: Vec<f32>) {
        self.spares.keep(gradient);
    }

    /// The weighted sum of the gradients of `batches`.
    ///
    /// # Errors
    /// [`RunError::Leaf`] where a micro-batch failed for good; [`RunError::Hierarchy`] without batches, or where all failed.
    pub fn run<W: GradientWorker>(
        &mut self,
        worker: &W,
        batches: &[W::Batch],
    ) -> Result<Reduction, RunError<W::Error>> {
        self.run_on(&Local, worker, batches)
    }

    /// As [`SphereHierarchy::run`] for a worker that hands its gradient over in buckets.
    ///
    /// # Errors
    /// As [`SphereHierarchy::run`], and [`Error::DropWhileStreaming`].
    pub fn run_streaming<W: StreamingWorker>(
        &mut self,
        worker: &W,
        batches: &[W::Batch],
    ) -> Result<Reduction, RunError<W::Error>> {
        self.run_streaming_on(&Local, worker, batches)
    }

    /// As [`SphereHierarchy::run`] together with other ranks, each with its own part of the step's micro-batches: they follow one
    /// another in order of rank, and a rank may have none. [`share`](crate::share) divides them evenly. Every rank returns the same
    /// gradient, with the bits that one rank would get from all the batches.
    ///
    /// # Errors
    /// As [`SphereHierarchy::run`]; [`Error::OtherRank`] where another rank failed; [`Error::Collective`].
    pub fn run_on<W: GradientWorker>(
        &mut self,
        collective: &dyn Collective,
        worker: &W,
        batches: &[W::Batch],
    ) -> Result<Reduction, RunError<W::Error>> {
        self.run_streaming_on(collective, &Whole(worker), batches)
    }

    /// As [`SphereHierarchy::run_on`] for a worker that hands its gradient over in buckets.
    ///
    /// # Errors
    /// As [`SphereHierarchy::run_on`], and [`Error::DropWhileStreaming`].
    pub fn run_streaming_on<W: StreamingWorker>(
        &mut self,
        collective: &dyn Collective,
        worker: &W,
        batches: &[W::Batch],
    ) -> Result<Reduction, RunError<W::Error>> {
        let started = self.clock.now();
        let (rank, ranks) = (collective.rank(), collective.size());
        let Place { here: own, n_batches } = place(collective, batches.len())?;
        if n_batches == 0 {
            return Err(Error::NoBatches.into());
        }
        let mut buckets = worker.buckets();
        if buckets.is_empty() {
            buckets.push(0);
        }
        if self.config.on_failure == OnFailure::DropAndRescale && buckets.len() > 1 {
            return Err(Error::DropWhileStreaming { buckets: buckets.len() }.into());
        }
        let threads = self.config.threads.unwrap_or_else(rayon::current_num_threads);
        let n_parameters = buckets.iter().sum::<usize>();
        let bytes = n_parameters * size_of::<W::Element>();
        let (plan, depth) = self.plan(threads, n_batches, own.clone(), ranks == 1, bytes)?;
        let mut gradient = self.spares.take(n_parameters).unwrap_or_else(|| vec![0.0; n_parameters]);
        let engine = Engine::new(worker, batches, plan.clone(), &self.clock, &self.spares, &buckets, &mut gradient);
        let outcome = match &self.pool {
            Some(pool) => pool.install(|| engine.run()),
            None if self.config.threads.is_some() => engine.run(),
            // Within the pool from the start: work that uses rayon itself would else enter it again and again.
            None => rayon::scope(|_| engine.run()),
        };
        let Outcome { pieces, mut dropped, failed, mut spheres, counters } = outcome;
        agree(collective, failed)?;
        if depth == 0 {
            merge_spheres(&mut spheres);
        }
        let mut sent = 0;
        let mut norms = vec![0.0; buckets.iter().map(|len| len.div_ceil(NORM_BLOCK)).sum()];
        if ranks == 1 && dropped.len() == n_batches {
            return Err(Error::NothingLeft { n_batches }.into());
        }
        let (mut rest, mut rest_norms) = (&mut gradient[..], &mut norms[..]);
        for (len, pieces) in buckets.iter().zip(pieces) {
            let (out, norms);
            (out, rest) = rest.split_at_mut(*len);
            (norms, rest_norms) = rest_norms.split_at_mut(len.div_ceil(NORM_BLOCK));
            if ranks > 1 {
                sent += add_across(collective, n_batches, pieces, self.config.accumulation, out, norms)?;
            } else {
                squares(out, norms);
            }
        }
        let mut norm = norms.iter().sum::<f64>().sqrt();
        if self.config.on_failure == OnFailure::DropAndRescale {
            let weights: Vec<f32> = batches.iter().map(|batch| worker.weight(batch)).collect();
            let factor = rescale(collective, own.start, &weights, &mut dropped)?;
            if factor != 1.0 {
                gradient.iter_mut().for_each(|x| *x *= factor);
                norms.resize(n_parameters.div_ceil(NORM_BLOCK), 0.0);
                squares(&gradient, &mut norms);
                norm = norms.iter().sum::<f64>().sqrt();
            }
        }
        if self.clock.now().is_some() && !batches.is_empty() {
            let busy: f64 = spheres.iter().map(|sphere| sphere.seconds).sum();
            self.seconds_per_batch = Some(busy / batches.len() as f64);
        }
        let n_added = batches.len() - dropped.iter().filter(|batch| own.contains(batch)).count();
        let mut statistics = Statistics {
            n_batches,
            n_batches_here: batches.len(),
            n_parameters,
            depth,
            height: plan.height,
            threads: plan.threads,
            rank,
            ranks,
            wall_seconds: self.clock.since(started).as_secs_f64(),
            bytes_added: (n_added * n_parameters * size_of::<W::Element>()) as u64,
            bytes_sent: sent,
            joins: usize::from(plan.n_tasks() > 1),
            n_dropped: dropped.len(),
            ..Statistics::of_spheres(depth, plan.n_tasks(), spheres, &counters)
        };
        statistics.buffer_bytes += n_parameters * size_of::<f32>();
        Ok(Reduction { gradient, norm, dropped, statistics })
    }

    /// How the step is cut into blocks, and the depth of the spheres that compute them.
    fn plan(
        &self,
        threads: usize,
        n_batches: usize,
        own: std::ops::Range<usize>,
        is_alone: bool,
        bytes: usize,
    ) -> Result<(Plan, u32), Error> {
        let height = height(n_batches);
        let depth = match (self.config.depth, self.seconds_per_batch) {
            (Some(depth), _) => depth,
            (None, Some(seconds)) => choose_depth(n_batches, threads, seconds)?,
            (None, None) => height,
        };
        let fits = |level: u32| {
            let begins_whole = |leaf: usize| leaf.is_multiple_of(width(level)) || leaf == n_batches;
            begins_whole(own.start) && begins_whole(own.end)
        };
        // Where a rank's share cuts through a sphere, smaller ones stand in. A single sphere is computed as its children, in order on
        // one thread.
        let wanted = height.saturating_sub(depth.max(1));
        let block_level = (0..=wanted).rev().find(|level| fits(*level)).unwrap_or(0);
        let plan = Plan {
            n_leaves: n_batches,
            first: own.start,
            end: own.end,
            height: height.max(1),
            block_level,
            threads: if depth == 0 { 1 } else { threads },
            longest_run: if depth == 0 { 1 } else { (SHORT_BYTES / bytes.max(1)).clamp(1, LONGEST_RUN) },
            is_alone,
            accumulation: self.config.accumulation,
            on_failure: self.config.on_failure,
            accept_non_finite: self.config.accept_non_finite,
            time_limit: self.config.time_limit,
            shuffle: self.config.shuffle,
        };
        let depth = if block_level == wanted { depth } else { height - block_level };
        Ok((plan, depth))
    }
}

/// Where a rank's micro-batches stand among those of the step.
struct Place {
    here: std::ops::Range<usize>,
    n_batches: usize,
}

fn place(collective: &dyn Collective, n_here: usize) -> Result<Place, Error> {
    if collective.size() == 1 {
        return Ok(Place { here: 0..n_here, n_batches: n_here });
    }
    let all = collective.gather_bytes(&(n_here as u64).to_le_bytes())?;
    let counts: Vec<usize> =
        all.iter().map(|bytes| bytes.as_array::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes) as usize)).collect();
    let first: usize = counts[..collective.rank()].iter().sum();
    Ok(Place { here: first..first + n_here, n_batches: counts.iter().sum() })
}

/// Lets a failure on one rank be one on all.
fn agree<E: std::error::Error>(
    collective: &dyn Collective,
    failed: Option<(usize, u32, LeafFailure<E>)>,
) -> Result<(), RunError<E>> {
    let broken = if collective.size() > 1 {
        let mine = failed.as_ref().map_or(Vec::new(), |(batch, ..)| (*batch as u64).to_le_bytes().to_vec());
        let all = collective.gather_bytes(&mine)?;
        all.iter().enumerate().find_map(|(rank, bytes)| bytes.as_array::<8>().map(|batch| (rank, *batch)))
    } else {
        None
    };
    match (failed, broken) {
        (Some((batch, tries, failure)), _) => Err(RunError::Leaf { batch, tries, failure }),
        (None, Some((rank, batch))) => Err(Error::OtherRank { rank, batch: u64::from_le_bytes(batch) as usize }.into()),
        (None, None) => Ok(()),
    }
}

/// The children of a single sphere as the one that they are.
fn merge_spheres(spheres: &mut Vec<SphereStatistics>) {
    let merged = spheres.drain(..).reduce(|mut whole, part| {
        whole.n_batches += part.n_batches;
        whole.seconds += part.seconds;
        whole
    });
    spheres.extend(merged);
}

/// What makes up for micro-batches that were left out: all weights over those that are left. `dropped` becomes that of all
/// ranks.
fn rescale(collective: &dyn Collective, first: usize, weights: &[f32], dropped: &mut Vec<usize>) -> Result<f32, Error> {
    // Of each batch of this rank its weight and whether it was dropped.
    let mine: Vec<u8> = weights
        .iter()
        .enumerate()
        .flat_map(|(at, weight)| [weight.to_bits(), u32::from(dropped.contains(&(first + at)))])
        .flat_map(u32::to_le_bytes)
        .collect();
    let all = collective.gather_bytes(&mine)?.concat();
    let (numbers, _) = all.as_chunks::<4>();
    let (pairs, _) = numbers.as_chunks::<2>();
    let (mut total, mut left) = (0.0_f64, 0.0_f64);
    dropped.clear();
    for (batch, [weight, is_dropped]) in pairs.iter().enumerate() {
        let weight = f64::from(f32::from_bits(u32::from_le_bytes(*weight)));
        total += weight;
        if u32::from_le_bytes(*is_dropped) == 0 { left += weight } else { dropped.push(batch) }
    }
    Ok(if dropped.is_empty() || left == 0.0 { 1.0 } else { (total / left) as f32 })
}
