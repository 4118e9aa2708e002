//! Covariance moves: particles are drawn around a centre, with the covariance of the steps that succeeded.

mod weights;

use krystal_math::eigen::SymmetricEigen;
use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use crate::Fitness;
use weights::Weights;

/// A swarm around a centre `m`: particle `k` is at `m + sigma y_k`, `y_k` normal with covariance `C`.
///
/// After each generation `m` moves towards the better half, `C` learns from the steps of the better ones and unlearns those of the
/// worse, and `sigma` grows while successive moves of the centre agree: CMA-ES (Hansen and Ostermeier 2001,
/// doi:10.1162/106365601750190398) with the negative weights of Hansen 2016, arXiv:1604.00772. `O(n^2)` for each particle and `O(n^3)`
/// every `n / 10` generations or so.
///
/// Walls: a particle beyond one is drawn again, up to [`DRAWS`] times, and then put on it; `C` and `m` learn from where it would
/// have been, so `m` may leave the cube by a few `sigma`. Of particles that are worth the same, the one that left it less is better.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Covariance {
    n: usize,
    weights: Weights,
    seed: u64,
    stream: u64,
    generation: u64,
    decomposed_at: u64,
    mean: Vec<f64>,
    sigma: f64,
    first_sigma: f64,
    /// `C = B diag(d^2) B^T`, all `(n, n)` row-major; `B` and `d` may lag behind.
    c: Vec<f64>,
    b: Vec<f64>,
    d: Vec<f64>,
    p_sigma: Vec<f64>,
    p_c: Vec<f64>,
    /// Steps of the present generation, `(lambda, n)`.
    y: Vec<f64>,
    /// By how far each left the cube.
    outside: Vec<f64>,
    best: Fitness,
    best_at: u64,
    /// Best values of recent generations, a ring; infinite where infeasible.
    recent: Vec<f64>,
    range: f64,
    is_over: bool,
    #[serde(skip)]
    scratch: Scratch,
}

/// Draws of one particle until it is inside.
const DRAWS: usize = 20;

/// The objective's range over the last generations at which a run is over, unless its numbers cannot even resolve that.
const LEAST_RANGE: f64 = 1e-12;

/// The largest condition number of `C`.
const MOST_CONDITION: f64 = 1e14;

/// The smallest standard deviation of a coordinate, as a share of the box.
const LEAST_STEP: f64 = 1e-12;

/// What is computed anew whenever it is needed.
#[derive(Debug, Clone, Default)]
struct Scratch {
    order: Vec<usize>,
    z: Vec<f64>,
    step: Vec<f64>,
    eigen: Option<SymmetricEigen>,
}

impl Covariance {
    /// As many particles as do for `n` dimensions.
    pub(crate) fn default_size(n: usize) -> usize {
        4 + (3.0 * (n as f64).ln()) as usize
    }

    /// `lambda` particles, at least 4, around `mean` with standard deviation `sigma`.
    pub(crate) fn new(mean: Vec<f64>, sigma: f64, lambda: usize, seed: u64, stream: u64) -> Self {
        let n = mean.len();
        let mut identity = vec![0.0; n * n];
        identity.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
        let n_recent = 10 + (30 * n).div_ceil(lambda);
        Self {
            n,
            weights: Weights::new(lambda, n),
            seed,
            stream,
            generation: 0,
            decomposed_at: 0,
            mean,
            sigma,
            first_sigma: sigma,
            b: identity.clone(),
            c: identity,
            d: vec![1.0; n],
            p_sigma: vec![0.0; n],
            p_c: vec![0.0; n],
            y: vec![0.0; lambda * n],
            outside: vec![0.0; lambda],
            best: Fitness::WORST,
            best_at: 0,
            recent: vec![f64::INFINITY; n_recent],
            range: f64::INFINITY,
            is_over: false,
            scratch: Scratch::default(),
        }
    }

    /// Particles.
    pub(crate) fn size(&self) -> usize {
        self.outside.len()
    }

    /// Whether what was loaded fits together.
    pub(crate) fn is_of(&self, n: usize) -> bool {
        let squares = [self.c.len(), self.b.len()];
        let vectors = [self.mean.len(), self.d.len(), self.p_sigma.len(), self.p_c.len()];
        self.n == n
            && squares == [n * n; 2]
            && vectors == [n; 4]
            && self.y.len() == self.size() * n
            && self.weights.of_rank.len() == self.size()
            && self.weights.mu < self.size()
            && !self.recent.is_empty()
    }

    /// The objective's range, the larger of that within the last generation and that of the best of the last generations; infinite
    /// while there are infeasible points, or too few generations.
    pub(crate) fn range(&self) -> f64 {
        self.range
    }

    /// Whether nothing more is to be gained.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn ask(&mut self, points: &mut Vec<f64>) {
        let Self { n, mean, sigma, b, d, y, outside, scratch, .. } = self;
        let mut rng = SplitMix64::stream(self.seed, Purpose::Swarm, self.stream, self.generation);
        scratch.z.resize(*n, 0.0);
        points.resize(y.len(), 0.0);
        for ((y, point), outside) in y.chunks_exact_mut(*n).zip(points.chunks_exact_mut(*n)).zip(outside) {
            for _ in 0..DRAWS {
                scratch.z.iter_mut().zip(&*d).for_each(|(z, d)| *z = d * rng.normal());
                for (y, row) in y.iter_mut().zip(b.chunks_exact(*n)) {
                    *y = dot(row, &scratch.z);
                }
                *outside = 0.0;
                for ((x, y), m) in point.iter_mut().zip(&*y).zip(&*mean) {
                    let wanted = m + *sigma * y;
                    *x = wanted.clamp(0.0, 1.0);
                    *outside += (wanted - *x).abs();
                }
                if *outside == 0.0 {
                    break;
                }
            }
        }
    }

    /// `own[k]` is false where the user put another point in the place of the particle.
    pub(crate) fn tell(&mut self, points: &[f64], fitness: &[Fitness], own: &[bool]) {
        for k in (0..self.size()).filter(|&k| !own[k]) {
            self.inject(k, points);
        }
        let Self { scratch: Scratch { order, .. }, outside, .. } = self;
        order.clear();
        order.extend(0..fitness.len());
        order.sort_unstable_by(|&a, &b| {
            fitness[a].order(&fitness[b]).then(outside[a].total_cmp(&outside[b])).then(a.cmp(&b))
        });
        self.generation += 1;
        let grows = self.move_centre();
        self.learn_covariance(grows);
        if self.generation >= self.decomposed_at + self.weights.generations_between_decompositions(self.n) {
            self.decompose();
        }
        self.watch(fitness);
    }

    /// Makes a step of a point from elsewhere, no longer than steps usually are (Hansen 2011, arXiv:1110.4181).
    fn inject(&mut self, k: usize, points: &[f64]) {
        let n = self.n;
        let y = &mut self.y[k * n..][..n];
        for ((y, x), m) in y.iter_mut().zip(&points[k * n..][..n]).zip(&self.mean) {
            *y = (x - m) / self.sigma;
        }
        let length = whitened_length2(&self.b, &self.d, y).sqrt();
        let most = (n as f64).sqrt() + 2.0 * n as f64 / (n as f64 + 2.0);
        if length > most {
            y.iter_mut().for_each(|y| *y *= most / length);
        }
        self.outside[k] = 0.0;
    }

    /// Moves the centre and its path, changes `sigma`, and says whether the path of the covariance may grow: not while `sigma` is
    /// growing fast.
    fn move_centre(&mut self) -> bool {
        let Self { n, weights: w, scratch: Scratch { order, z, step, .. }, .. } = self;
        let n = *n;
        step.clear();
        step.resize(n, 0.0);
        for (&k, weight) in order.iter().zip(&w.of_rank[..w.mu]) {
            add_scaled(step, *weight, &self.y[k * n..][..n]);
        }
        add_scaled(&mut self.mean, self.sigma, step);
        z.clear();
        z.resize(n, 0.0);
        for (row, step) in self.b.chunks_exact(n).zip(&*step) {
            add_scaled(z, *step, row);
        }
        z.iter_mut().zip(&self.d).for_each(|(z, d)| *z /= d);
        let rate = (w.c_sigma * (2.0 - w.c_sigma) * w.mu_eff).sqrt();
        for (p, row) in self.p_sigma.iter_mut().zip(self.b.chunks_exact(n)) {
            *p = (1.0 - w.c_sigma) * *p + rate * dot(row, z);
        }
        let length2 = dot(&self.p_sigma, &self.p_sigma);
        let growth = (length2.sqrt() / w.normal_length - 1.0) * w.c_sigma / w.d_sigma;
        self.sigma *= growth.min(1.0).exp();
        let begun = 1.0 - (1.0 - w.c_sigma).powf(2.0 * self.generation as f64);
        length2 / begun / (n as f64) < 2.0 + 4.0 / (n as f64 + 1.0)
    }

    fn learn_covariance(&mut self, grows: bool) {
        let Self { n, weights: w, c, b, d, p_c, y, scratch: Scratch { order, step, .. }, .. } = self;
        let n = *n;
        let rate = if grows { (w.c_c * (2.0 - w.c_c) * w.mu_eff).sqrt() } else { 0.0 };
        p_c.iter_mut().zip(step).for_each(|(p, step)| *p = (1.0 - w.c_c) * *p + rate * *step);
        let c_1 = if grows { w.c_1 } else { w.c_1 * (1.0 - w.c_c * (2.0 - w.c_c)) };
        let kept = 1.0 - c_1 - w.c_mu * w.of_rank.iter().sum::<f64>();
        c.iter_mut().for_each(|c| *c *= kept);
        add_outer(c, w.c_1, p_c);
        for (&k, &weight) in order.iter().zip(&w.of_rank) {
            let y = &y[k * n..][..n];
            // A worse step counts as if it were of the usual length: C stays positive definite.
            let by = if weight < 0.0 { n as f64 / whitened_length2(b, d, y).max(f64::MIN_POSITIVE) } else { 1.0 };
            add_outer(c, w.c_mu * weight * by, y);
        }
    }

    fn decompose(&mut self) {
        self.decomposed_at = self.generation;
        let n = self.n;
        let eigen = self.scratch.eigen.get_or_insert_with(|| SymmetricEigen::new(n));
        if !eigen.compute(&self.c) || eigen.values()[0] <= 0.0 {
            self.is_over = true;
            return;
        }
        self.is_over |= eigen.values()[n - 1] > MOST_CONDITION * eigen.values()[0];
        self.b.copy_from_slice(eigen.vectors());
        self.d.iter_mut().zip(eigen.values()).for_each(|(d, value)| *d = value.sqrt());
    }

    /// Looks whether the run is over: nothing changes any more, or cannot, or nothing better has come for long.
    fn watch(&mut self, fitness: &[Fitness]) {
        let order = &self.scratch.order;
        let (best, worst) = (fitness[order[0]], fitness[order[order.len() - 1]]);
        if best.beats(&self.best) {
            (self.best, self.best_at) = (best, self.generation);
        }
        let n_recent = self.recent.len();
        self.recent[self.generation as usize % n_recent] =
            if best.violation == 0.0 { best.value } else { f64::INFINITY };
        let (least, most) = self
            .recent
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &x| (least.min(x), most.max(x)));
        let within = if worst.violation == 0.0 { worst.value - best.value } else { f64::INFINITY };
        let across = most - least;
        self.range = if across.is_nan() { f64::INFINITY } else { within.max(across) };

        let widest = (0..self.n).map(|i| self.c[i * self.n + i].sqrt().max(self.p_c[i].abs())).fold(0.0, f64::max);
        let longest = self.d.iter().copied().fold(0.0, f64::max);
        let patience = 120.0 + (30 * self.n / self.size()) as f64 + 0.2 * self.generation as f64;
        let third_quarter = &fitness[order[(order.len() * 7 / 10).max(1)]];
        self.is_over |= across < LEAST_RANGE
            || self.sigma * widest < LEAST_STEP
            || self.sigma * longest > 1e4 * self.first_sigma.max(1.0)
            || best.order(third_quarter).is_eq()
            || (self.generation - self.best_at) as f64 > patience
            || !(self.sigma.is_finite() && self.mean.iter().all(|m| m.is_finite()));
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

/// `C += factor x x^T`.
fn add_outer(c: &mut [f64], factor: f64, x: &[f64]) {
    for (row, xi) in c.chunks_exact_mut(x.len()).zip(x) {
        add_scaled(row, factor * xi, x);
    }
}

/// `|C^(-1/2) y|^2`.
fn whitened_length2(b: &[f64], d: &[f64], y: &[f64]) -> f64 {
    let n = y.len();
    (0..n).map(|j| (y.iter().enumerate().map(|(i, y)| b[i * n + j] * y).sum::<f64>() / d[j]).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs from the middle until nothing more is to be gained; the best value and the evaluations.
    fn run(n: usize, seed: u64, objective: impl Fn(&[f64]) -> f64) -> (f64, usize, Covariance) {
        let mut swarm = Covariance::new(vec![0.5; n], 0.2, Covariance::default_size(n), seed, 0);
        let (mut points, mut best, mut evaluations) = (Vec::new(), f64::INFINITY, 0);
        while !swarm.is_over() {
            swarm.ask(&mut points);
            assert!(points.iter().all(|x| (0.0..=1.0).contains(x)));
            let fitness: Vec<_> = points.chunks_exact(n).map(|x| Fitness::of(objective(x))).collect();
            best = fitness.iter().fold(best, |best, fitness| best.min(fitness.value));
            evaluations += fitness.len();
            swarm.tell(&points, &fitness, &vec![true; fitness.len()]);
            assert!(swarm.is_of(n));
        }
        (best, evaluations, swarm)
    }

    /// An ellipsoid of condition 10^6 whose axes are those of no coordinate: each neighbouring pair turned by 0.7.
    fn ellipsoid(x: &[f64]) -> f64 {
        let n = x.len();
        let mut z: Vec<f64> = x.iter().map(|x| 10.0 * x - 3.7).collect();
        for i in 1..n {
            let (sin, cos) = 0.7_f64.sin_cos();
            (z[i - 1], z[i]) = (cos * z[i - 1] - sin * z[i], sin * z[i - 1] + cos * z[i]);
        }
        z.iter().enumerate().map(|(i, z)| 10_f64.powf(6.0 * i as f64 / (n - 1) as f64) * z * z).sum()
    }

    #[test]
    fn it_learns_the_shape_of_an_ellipsoid() {
        for seed in 0..5 {
            let (best, evaluations, mut swarm) = run(5, seed, ellipsoid);
            assert!(best < 1e-10 && evaluations < 4500, "seed {seed}: {best} after {evaluations}");
            swarm.decompose();
            // Standard deviations are to be those of the axes of the level sets: a factor of 10^3 between them.
            let condition = swarm.d[4] / swarm.d[0];
            assert!((300.0..3000.0).contains(&condition), "seed {seed}: {condition}");
        }
    }

    #[test]
    fn optima_in_corners_and_on_faces_are_found() {
        let (best, evaluations, _) = run(5, 1, |x| x.iter().sum());
        assert!(best == 0.0 && evaluations < 5000, "{best} after {evaluations}");
        let (best, ..) = run(5, 1, |x| x[0] + x[1..].iter().map(|x| (x - 0.3).powi(2)).sum::<f64>());
        assert!(best < 1e-10, "{best}");
    }

    #[test]
    fn plateaus_and_failures_end_it() {
        assert!(run(4, 1, |_| 1.0).1 < 20);
        assert!(run(4, 1, |_| f64::INFINITY).1 < 20);
    }

    #[test]
    fn a_point_from_elsewhere_pulls_the_centre_but_not_too_far() {
        let n = 4;
        let mut swarm = Covariance::new(vec![0.5; n], 0.01, 8, 1, 0);
        let mut points = Vec::new();
        swarm.ask(&mut points);
        points[..n].fill(0.9);
        let fitness: Vec<_> = (0..8).map(|k| Fitness::of(k as f64)).collect();
        let own: Vec<_> = (0..8).map(|k| k > 0).collect();
        swarm.tell(&points, &fitness, &own);
        let longest = (n as f64).sqrt() + 2.0 * n as f64 / (n as f64 + 2.0);
        let moved: f64 = swarm.mean.iter().map(|m| (m - 0.5).powi(2)).sum::<f64>().sqrt();
        assert!(swarm.mean.iter().all(|m| *m > 0.5), "{:?}", swarm.mean);
        assert!(moved < 0.01 * longest, "{moved}");
    }
}
