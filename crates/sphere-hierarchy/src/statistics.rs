//! What a step did, sphere by sphere.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::LeafFailure;
use crate::tree::{ARITY, count_at_depth};

/// Counts that tasks write to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) retried: AtomicUsize,
    pub(crate) panicked: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    pub(crate) non_finite: AtomicUsize,
    pub(crate) overdue: AtomicUsize,
    pub(crate) buffer_bytes: AtomicUsize,
}

impl Counters {
    pub(crate) fn count<E>(&self, failure: &LeafFailure<E>) {
        let counter = match failure {
            LeafFailure::Panicked { .. } => &self.panicked,
            LeafFailure::Refused { .. } | LeafFailure::BucketMissing { .. } => &self.refused,
            LeafFailure::NonFinite { .. } => &self.non_finite,
            LeafFailure::Overdue { .. } => &self.overdue,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A sphere without children: what it computed, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SphereStatistics {
    /// Number of the sphere in its level.
    pub index: usize,
    /// Its first micro-batch.
    pub first_batch: usize,
    /// Its micro-batches.
    pub n_batches: usize,
    /// Time spent on them; 0 without a clock.
    pub seconds: f64,
    /// The thread that did.
    pub thread: usize,
}

/// The spheres of one depth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelStatistics {
    /// 0 for the root.
    pub depth: u32,
    /// Spheres of the full tree.
    pub n_spheres: u64,
    /// Spheres that had micro-batches.
    pub n_active: usize,
    /// Fewest and most micro-batches of an active sphere.
    pub batches: [usize; 2],
    /// Least and most time of an active sphere (seconds).
    pub seconds: [f64; 2],
    /// Most time of a sphere over the mean; 1 is perfect balance, and what is reported without a clock.
    pub imbalance: f64,
}

/// What a step did on this machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// Micro-batches of the step, on all ranks.
    pub n_batches: usize,
    /// Micro-batches computed here.
    pub n_batches_here: usize,
    /// Parameters (P).
    pub n_parameters: usize,
    /// Depth of the tree of spheres.
    pub depth: u32,
    /// Height of the tree of the sum, which depends on the micro-batches alone.
    pub height: u32,
    /// Threads that could compute.
    pub threads: usize,
    /// This rank.
    pub rank: usize,
    /// Ranks.
    pub ranks: usize,
    /// Time from start to end; 0 without a clock.
    pub wall_seconds: f64,
    /// Time of each thread in micro-batches (seconds).
    pub busy_seconds: Vec<f64>,
    /// Spheres computed by another thread than an even division would have given them to.
    pub n_stolen: usize,
    /// Bytes of gradients that were read in order to be added.
    pub bytes_added: u64,
    /// Bytes of micro-batches' gradients and partial sums that existed at most, the result included.
    pub buffer_bytes: usize,
    /// Bytes sent to other ranks.
    pub bytes_sent: u64,
    /// Points where threads wait for each other: one, at the end of a step, where more than one thread computes.
    pub joins: usize,
    /// Locks taken on the way of a gradient: none.
    pub locks: usize,
    /// Tries that failed and were repeated.
    pub n_retried: usize,
    /// Tries that panicked.
    pub n_panicked: usize,
    /// Tries that returned an error.
    pub n_refused: usize,
    /// Tries whose gradient was not finite.
    pub n_non_finite: usize,
    /// Tries that took too long.
    pub n_overdue: usize,
    /// Micro-batches left out, on all ranks.
    pub n_dropped: usize,
    /// Speed-up over one thread that the times of the spheres allow, were each handed to the first free thread; 1 without a clock.
    pub predicted_speed_up: f64,
    /// Spheres by depth, the root first.
    pub levels: Vec<LevelStatistics>,
    /// Spheres without children that had micro-batches here.
    pub spheres: Vec<SphereStatistics>,
}

impl Statistics {
    /// What `tasks` at once did to these spheres; the rest is left empty.
    pub(crate) fn of_spheres(depth: u32, tasks: usize, spheres: Vec<SphereStatistics>, counters: &Counters) -> Self {
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let threads = spheres.iter().map(|sphere| sphere.thread + 1).max().unwrap_or(1);
        let mut busy_seconds = vec![0.0; threads.max(tasks)];
        spheres.iter().for_each(|sphere| busy_seconds[sphere.thread] += sphere.seconds);
        // An even division gives each task a part of the spheres, one after another.
        let at_home = |task: usize| {
            let part = crate::tree::share(spheres.len(), task, tasks);
            spheres[part].iter().filter(|sphere| sphere.thread == task).count()
        };
        Self {
            depth,
            busy_seconds,
            n_stolen: spheres.len() - (0..tasks).map(at_home).sum::<usize>(),
            buffer_bytes: load(&counters.buffer_bytes),
            n_retried: load(&counters.retried),
            n_panicked: load(&counters.panicked),
            n_refused: load(&counters.refused),
            n_non_finite: load(&counters.non_finite),
            n_overdue: load(&counters.overdue),
            predicted_speed_up: predicted_speed_up(tasks, &spheres),
            levels: levels(depth, &spheres),
            spheres,
            ..Self::default()
        }
    }
}

/// Spheres of each depth from those without children.
fn levels(depth: u32, spheres: &[SphereStatistics]) -> Vec<LevelStatistics> {
    let (mut level, mut parents) = level(depth, spheres.iter().map(|s| (s.index, s.n_batches, s.seconds)));
    let mut levels = Vec::with_capacity(depth as usize + 1);
    for above in (0..depth).rev() {
        levels.push(level);
        (level, parents) = self::level(above, parents.into_iter());
    }
    levels.push(level);
    levels.reverse();
    levels
}

/// The spheres of one depth, each by number, micro-batches and time, and their parents.
fn level(depth: u32, nodes: impl Iterator<Item = (usize, usize, f64)>) -> (LevelStatistics, Vec<(usize, usize, f64)>) {
    let above = depth.checked_sub(1).and_then(|above| count_at_depth(above).ok()).unwrap_or(0);
    let (mut n_active, mut total, mut batches, mut times) = (0, 0.0, [usize::MAX, 0], [f64::INFINITY, 0.0_f64]);
    let mut parents: Vec<(usize, usize, f64)> = Vec::new();
    for (index, n_batches, seconds) in nodes {
        n_active += 1;
        total += seconds;
        batches = [batches[0].min(n_batches), batches[1].max(n_batches)];
        times = [times[0].min(seconds), times[1].max(seconds)];
        match parents.last_mut() {
            Some(parent) if parent.0 == index / ARITY => {
                parent.1 += n_batches;
                parent.2 += seconds;
            }
            _ => parents.push((index / ARITY, n_batches, seconds)),
        }
    }
    let level = LevelStatistics {
        depth,
        n_spheres: count_at_depth(depth).unwrap_or(u64::MAX) - above,
        n_active,
        batches: if n_active == 0 { [0, 0] } else { batches },
        seconds: if n_active == 0 { [0.0, 0.0] } else { times },
        imbalance: if total > 0.0 { times[1] * n_active as f64 / total } else { 1.0 },
    };
    (level, parents)
}

/// All the time over the time of the busiest of `threads`, each sphere going to the first that is free.
fn predicted_speed_up(threads: usize, spheres: &[SphereStatistics]) -> f64 {
    let total: f64 = spheres.iter().map(|sphere| sphere.seconds).sum();
    if total == 0.0 {
        return 1.0;
    }
    let mut free_at = vec![0.0_f64; threads.max(1)];
    for sphere in spheres {
        let first = free_at.iter_mut().min_by(|a, b| a.total_cmp(b));
        if let Some(first) = first {
            *first += sphere.seconds;
        }
    }
    total / free_at.into_iter().fold(0.0, f64::max)
}

fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", units[unit]) }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spheres: u64 = self.levels.iter().map(|level| level.n_spheres).sum();
        let place = if self.ranks > 1 { format!(", rank {} of {}", self.rank, self.ranks) } else { String::new() };
        writeln!(f, "sphere hierarchy: depth {}, {spheres} spheres, {} threads{place}", self.depth, self.threads)?;
        writeln!(
            f,
            "{:>7} {:>9} {:>9} {:>15} {:>23} {:>10}",
            "depth", "spheres", "active", "batches", "seconds", "imbalance"
        )?;
        for level in &self.levels {
            let range = |low: String, high: String| if low == high { low } else { format!("{low} to {high}") };
            writeln!(
                f,
                "{:>7} {:>9} {:>9} {:>15} {:>23} {:>10.3}",
                level.depth,
                level.n_spheres,
                level.n_active,
                range(level.batches[0].to_string(), level.batches[1].to_string()),
                range(format!("{:.6}", level.seconds[0]), format!("{:.6}", level.seconds[1])),
                level.imbalance,
            )?;
        }
        let here = if self.ranks > 1 { format!(" ({} here)", self.n_batches_here) } else { String::new() };
        writeln!(
            f,
            "batches   {}{here}, {} parameters, tree of height {}",
            self.n_batches, self.n_parameters, self.height
        )?;
        let busy: Vec<String> = self.busy_seconds.iter().map(|seconds| format!("{seconds:.6}")).collect();
        writeln!(f, "time      {:.6} s; threads busy {} s", self.wall_seconds, busy.join(", "))?;
        writeln!(
            f,
            "balance   speed-up {:.2} predicted from these times on {} threads; {} spheres stolen",
            self.predicted_speed_up, self.threads, self.n_stolen
        )?;
        writeln!(
            f,
            "memory    {} of buffers; {} read to be added; {} sent",
            bytes(self.buffer_bytes as u64),
            bytes(self.bytes_added),
            bytes(self.bytes_sent)
        )?;
        writeln!(f, "waiting   {} joins, {} locks", self.joins, self.locks)?;
        write!(
            f,
            "failures  {} retried ({} panicked, {} refused, {} not finite, {} overdue), {} dropped",
            self.n_retried, self.n_panicked, self.n_refused, self.n_non_finite, self.n_overdue, self.n_dropped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spheres(seconds: &[f64]) -> Vec<SphereStatistics> {
        let sphere = |(index, seconds): (usize, &f64)| SphereStatistics {
            index,
            first_batch: index,
            n_batches: 1,
            seconds: *seconds,
            thread: 0,
        };
        seconds.iter().enumerate().map(sphere).collect()
    }

    #[test]
    fn levels_add_up() {
        let levels = levels(2, &spheres(&[1.0; 25]));
        assert_eq!(levels.iter().map(|level| level.n_spheres).collect::<Vec<_>>(), [1, 12, 144]);
        assert_eq!(levels.iter().map(|level| level.n_active).collect::<Vec<_>>(), [1, 3, 25]);
        assert_eq!(levels[1].batches, [1, 12]);
        assert_eq!(levels[1].seconds, [1.0, 12.0]);
        assert_eq!(levels[1].imbalance, 12.0 * 3.0 / 25.0);
        assert_eq!(levels[2].imbalance, 1.0);
    }

    #[test]
    fn people_read_a_table_and_programs_read_json() {
        let mut spheres = spheres(&[0.5; 14]);
        spheres[13].thread = 1;
        let statistics = Statistics {
            n_batches: 14,
            n_batches_here: 14,
            n_parameters: 1_000,
            depth: 2,
            height: 2,
            threads: 2,
            rank: 0,
            ranks: 1,
            wall_seconds: 3.75,
            busy_seconds: vec![6.5, 0.5],
            n_stolen: 6,
            bytes_added: 56_000,
            buffer_bytes: 24_000,
            bytes_sent: 0,
            joins: 1,
            locks: 0,
            n_retried: 2,
            n_panicked: 1,
            n_refused: 0,
            n_non_finite: 1,
            n_overdue: 0,
            n_dropped: 0,
            predicted_speed_up: predicted_speed_up(2, &spheres),
            levels: levels(2, &spheres),
            spheres,
        };
        let expected = "\
sphere hierarchy: depth 2, 157 spheres, 2 threads
  depth   spheres    active         batches                 seconds  imbalance
      0         1         1              14                7.000000      1.000
      1        12         2         2 to 12    1.000000 to 6.000000      1.714
      2       144        14               1                0.500000      1.000
batches   14, 1000 parameters, tree of height 2
time      3.750000 s; threads busy 6.500000, 0.500000 s
balance   speed-up 2.00 predicted from these times on 2 threads; 6 spheres stolen
memory    23.4 KiB of buffers; 54.7 KiB read to be added; 0 B sent
waiting   1 joins, 0 locks
failures  2 retried (1 panicked, 0 refused, 1 not finite, 0 overdue), 0 dropped";
        assert_eq!(statistics.to_string(), expected);
        let json = serde_json::to_string(&statistics).unwrap();
        assert_eq!(serde_json::from_str::<Statistics>(&json).unwrap(), statistics);
        assert!(json.contains("\"locks\":0") && json.contains("\"imbalance\":1.7142857142857142"));
    }

    #[test]
    fn the_longest_sphere_bounds_the_speed_up() {
        assert_eq!(predicted_speed_up(2, &spheres(&[1.0; 4])), 2.0);
        assert_eq!(predicted_speed_up(2, &spheres(&[1.0; 3])), 1.5);
        assert_eq!(predicted_speed_up(4, &spheres(&[3.0, 1.0, 1.0, 1.0])), 2.0);
        assert_eq!(predicted_speed_up(4, &[]), 1.0);
    }
}
