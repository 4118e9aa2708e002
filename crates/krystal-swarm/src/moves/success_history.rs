//! Success-history moves: particles move by differences of positions, with coefficients that have succeeded before.

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use crate::Fitness;

/// A swarm whose particles move by `F (p - x) + F (a - b)` in some of their coordinates, and only to where it is better.
///
/// `p` is one of the best [`BEST`] of all particles, `a` another particle, `b` another one or one that was left behind. `F` and the
/// share of coordinates `CR` are drawn around values that succeeded, and the swarm shrinks from its first size to [`LEAST`] over its
/// budget: L-SHADE (Tanabe and Fukunaga 2014, doi:10.1109/CEC.2014.6900380), with an archive no larger than the swarm. A
/// coordinate that would leave the cube goes halfway to the wall.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SuccessHistory {
    n: usize,
    first_size: usize,
    budget: u64,
    spent: u64,
    seed: u64,
    stream: u64,
    generation: u64,
    /// Rows of the particles and what they are worth.
    x: Vec<f64>,
    fitness: Vec<Fitness>,
    /// Rows that better ones have replaced.
    archive: Vec<f64>,
    memory: [Success; MEMORY],
    next_memory: usize,
    /// Coefficients of each particle's present move.
    moved_by: Vec<Success>,
    is_over: bool,
    #[serde(skip)]
    order: Vec<usize>,
}

/// Coefficients that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Success {
    f: f64,
    /// Negative once only moves of one coordinate succeed: then it stays so.
    cr: f64,
}

/// Successes remembered.
const MEMORY: usize = 6;

/// Share of the particles that are followed.
const BEST: f64 = 0.11;

/// Particles left at the end.
const LEAST: usize = 4;

/// The objective's range over all particles at which a run is over.
const LEAST_RANGE: f64 = 1e-11;

impl SuccessHistory {
    /// `size` particles, at least [`LEAST`], and `budget` evaluations.
    pub(crate) fn new(n: usize, size: usize, budget: u64, seed: u64, stream: u64) -> Self {
        let first_size = size.max(LEAST);
        Self {
            n,
            first_size,
            budget,
            spent: 0,
            seed,
            stream,
            generation: 0,
            x: Vec::with_capacity(first_size * n),
            fitness: Vec::with_capacity(first_size),
            archive: Vec::with_capacity(first_size * n),
            memory: [Success { f: 0.5, cr: 0.5 }; MEMORY],
            next_memory: 0,
            moved_by: Vec::with_capacity(first_size),
            is_over: false,
            order: Vec::with_capacity(first_size),
        }
    }

    /// Particles.
    pub(crate) fn size(&self) -> usize {
        if self.fitness.is_empty() { self.first_size } else { self.fitness.len() }
    }

    /// Whether what was loaded fits together.
    pub(crate) fn is_of(&self, n: usize) -> bool {
        let rows = self.fitness.len();
        self.n == n
            && self.first_size >= LEAST
            && (rows == 0 || rows >= LEAST && self.moved_by.len() == rows)
            && self.x.len() == rows * n
            && self.archive.len().is_multiple_of(n)
            && self.next_memory < MEMORY
    }

    /// Root mean square over the coordinates of the particles' standard deviations.
    pub(crate) fn spread(&self) -> f64 {
        let rows = self.fitness.len().max(1) as f64;
        let variance = |j: usize| {
            let column = || self.x.iter().skip(j).step_by(self.n);
            let mean = column().sum::<f64>() / rows;
            column().map(|x| (x - mean).powi(2)).sum::<f64>() / rows
        };
        ((0..self.n).map(variance).sum::<f64>() / self.n as f64).sqrt()
    }

    /// Whether the budget is spent, or all particles are worth the same.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn ask(&mut self, points: &mut Vec<f64>) {
        let mut rng = SplitMix64::stream(self.seed, Purpose::Swarm, self.stream, 2 * self.generation);
        points.resize(self.size() * self.n, 0.0);
        if self.fitness.is_empty() {
            spread_evenly(points, self.n, &mut self.order, &mut rng);
            return;
        }
        let Self { n, x, fitness, order, .. } = self;
        let (n, size) = (*n, fitness.len());
        order.clear();
        order.extend(0..size);
        order.sort_unstable_by(|&a, &b| fitness[a].order(&fitness[b]).then(a.cmp(&b)));
        let followed = ((BEST * size as f64).round() as usize).clamp(2, size);
        let n_others = size + self.archive.len() / n;
        self.moved_by.clear();
        for (i, point) in points.chunks_exact_mut(n).enumerate() {
            let Success { f, cr } = draw_coefficients(&self.memory, &mut rng);
            let row = |k: usize| if k < size { &x[k * n..][..n] } else { &self.archive[(k - size) * n..][..n] };
            let leader = row(order[rng.below(followed as u64) as usize]);
            let a = draw_other(size, [i, i], &mut rng);
            let b = row(draw_other(n_others, [i, a], &mut rng));
            let (from, a) = (row(i), row(a));
            let always = rng.below(n as u64) as usize;
            for (j, to) in point.iter_mut().enumerate() {
                *to = from[j];
                if j == always || rng.uniform() < cr {
                    let wanted = from[j] + f * (leader[j] - from[j]) + f * (a[j] - b[j]);
                    *to = if (0.0..=1.0).contains(&wanted) { wanted } else { (from[j] + wanted.clamp(0.0, 1.0)) / 2.0 };
                }
            }
            self.moved_by.push(Success { f, cr });
        }
    }

    /// `own[k]` is false where the user put another point in the place of the particle.
    pub(crate) fn tell(&mut self, points: &[f64], fitness: &[Fitness], own: &[bool]) {
        self.spent += fitness.len() as u64;
        self.generation += 1;
        if self.fitness.is_empty() {
            self.x.extend_from_slice(points);
            self.fitness.extend_from_slice(fitness);
            self.moved_by.resize(fitness.len(), self.memory[0]);
        } else {
            let mut rng = SplitMix64::stream(self.seed, Purpose::Swarm, self.stream, 2 * self.generation - 1);
            self.select(points, fitness, own, &mut rng);
            self.shrink(&mut rng);
        }
        let values = || self.fitness.iter().map(|fitness| fitness.value);
        let range = values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
        let is_feasible = self.fitness.iter().all(|fitness| fitness.violation == 0.0);
        self.is_over = self.spent >= self.budget || is_feasible && range < LEAST_RANGE;
    }

    fn select(&mut self, points: &[f64], fitness: &[Fitness], own: &[bool], rng: &mut SplitMix64) {
        let n = self.n;
        let (mut weights, mut f, mut f2, mut cr, mut cr2) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (i, point) in points.chunks_exact(n).enumerate() {
            let x = &mut self.x[i * n..][..n];
            if fitness[i].beats(&self.fitness[i]) {
                if self.archive.len() < self.fitness.len() * n {
                    self.archive.extend_from_slice(x);
                } else {
                    let replaced = rng.below((self.archive.len() / n) as u64) as usize;
                    self.archive[replaced * n..][..n].copy_from_slice(x);
                }
                let gain = gain(&self.fitness[i], &fitness[i]);
                if own[i] && gain.is_finite() {
                    let by = self.moved_by[i];
                    weights += gain;
                    f += gain * by.f;
                    f2 += gain * by.f * by.f;
                    cr += gain * by.cr;
                    cr2 += gain * by.cr * by.cr;
                }
            }
            if !self.fitness[i].beats(&fitness[i]) {
                x.copy_from_slice(point);
                self.fitness[i] = fitness[i];
            }
        }
        if weights > 0.0 && f > 0.0 && f2.is_finite() {
            let memory = &mut self.memory[self.next_memory];
            memory.f = f2 / f;
            memory.cr = if memory.cr < 0.0 || cr <= 0.0 { -1.0 } else { cr2 / cr };
            self.next_memory = (self.next_memory + 1) % MEMORY;
        }
    }

    /// Lets the worst go: the size falls linearly with the evaluations spent.
    fn shrink(&mut self, rng: &mut SplitMix64) {
        let n = self.n;
        let share = (self.spent as f64 / self.budget as f64).min(1.0);
        let size = (self.first_size as f64 + (LEAST as f64 - self.first_size as f64) * share).round() as usize;
        while self.fitness.len() > size {
            let order = |&a: &usize, &b: &usize| self.fitness[a].order(&self.fitness[b]).then(a.cmp(&b));
            let Some(worst) = (0..self.fitness.len()).max_by(order) else { break };
            self.fitness.remove(worst);
            self.moved_by.remove(worst);
            self.x.drain(worst * n..(worst + 1) * n);
        }
        while self.archive.len() > self.fitness.len() * n {
            let forgotten = rng.below((self.archive.len() / n) as u64) as usize;
            self.archive.drain(forgotten * n..(forgotten + 1) * n);
        }
    }
}

/// How much better `new` is than `old`.
fn gain(old: &Fitness, new: &Fitness) -> f64 {
    if old.violation > 0.0 { old.violation - new.violation } else { old.value - new.value }
}

fn draw_coefficients(memory: &[Success; MEMORY], rng: &mut SplitMix64) -> Success {
    let around = memory[rng.below(MEMORY as u64) as usize];
    let cr = if around.cr < 0.0 { 0.0 } else { (around.cr + 0.1 * rng.normal()).clamp(0.0, 1.0) };
    let f = loop {
        // Cauchy.
        let f = around.f + 0.1 * (std::f64::consts::PI * (rng.uniform() - 0.5)).tan();
        if f > 0.0 {
            break f.min(1.0);
        }
    };
    Success { f, cr }
}

/// Uniform in `0..n` without `excluded`, of which `n` must have more.
fn draw_other(n: usize, excluded: [usize; 2], rng: &mut SplitMix64) -> usize {
    loop {
        let drawn = rng.below(n as u64) as usize;
        if !excluded.contains(&drawn) {
            return drawn;
        }
    }
}

/// A Latin hypercube: of any coordinate, one point lies in each of equal parts.
fn spread_evenly(points: &mut [f64], n: usize, order: &mut Vec<usize>, rng: &mut SplitMix64) {
    let rows = points.len() / n;
    order.clear();
    order.extend(0..rows);
    for j in 0..n {
        for i in (1..rows).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        for (x, part) in points.iter_mut().skip(j).step_by(n).zip(&*order) {
            *x = (*part as f64 + rng.uniform()) / rows as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut swarm: SuccessHistory, objective: impl Fn(&[f64]) -> f64) -> SuccessHistory {
        let mut points = Vec::new();
        while !swarm.is_over() {
            swarm.ask(&mut points);
            assert!(points.iter().all(|x| (0.0..=1.0).contains(x)));
            let fitness: Vec<_> = points.chunks_exact(swarm.n).map(|x| Fitness::of(objective(x))).collect();
            swarm.tell(&points, &fitness, &vec![true; fitness.len()]);
            assert!(swarm.is_of(swarm.n));
        }
        swarm
    }

    #[test]
    fn it_shrinks_and_finds_the_lowest_of_many_basins() {
        let rastrigin = |x: &[f64]| {
            let term = |x: f64| x * x + 10.0 * (1.0 - (std::f64::consts::TAU * x).cos());
            x.iter().map(|x| term(10.0 * x - 4.0)).sum::<f64>()
        };
        for seed in 0..5 {
            let swarm = run(SuccessHistory::new(4, 48, 20_000, seed, 0), rastrigin);
            let best = swarm.fitness.iter().map(|fitness| fitness.value).fold(f64::INFINITY, f64::min);
            assert!(best < 1e-6, "seed {seed}: {best}");
            assert!(swarm.size() < 48);
        }
    }

    #[test]
    fn first_points_fill_every_part_of_every_axis() {
        let mut points = vec![0.0; 3 * 20];
        let mut rng = SplitMix64::stream(1, Purpose::SelfCheck, 0, 0);
        spread_evenly(&mut points, 3, &mut Vec::new(), &mut rng);
        for j in 0..3 {
            let mut parts: Vec<_> = points.iter().skip(j).step_by(3).map(|x| (x * 20.0) as usize).collect();
            parts.sort_unstable();
            assert_eq!(parts, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn failures_teach_nothing_and_end_nothing_early() {
        let swarm = run(SuccessHistory::new(2, 10, 300, 1, 0), |_| f64::INFINITY);
        assert_eq!(swarm.memory, [Success { f: 0.5, cr: 0.5 }; MEMORY]);
        assert!(swarm.spent >= 300);
    }
}
