//! The seed's swarm, step by step.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_swarm::{Bounds, ClassicConfig, Method, SearchSpace, StopRules, Swarm, SwarmConfig};

const D: usize = 3;

fn score(x: &[f64]) -> f64 {
    -(x[0] - 0.3).powi(2) - (x[1] - 0.8).abs() - (x[2] - 1.4).powi(2)
}

/// The listing of the seed's section 3.2, line by line: it maximises, and knows nothing of this crate but where random numbers lie.
struct MicroSwarm {
    particles: Vec<[f64; D]>,
    velocities: Vec<[f64; D]>,
    best_positions: Vec<[f64; D]>,
    best_scores: Vec<f64>,
    global_best: [f64; D],
    global_best_score: f64,
}

impl MicroSwarm {
    fn new(seed: u64, n: usize) -> Self {
        let mut rng = SplitMix64::stream(seed, Purpose::Swarm, 0, 0);
        let mut particles = vec![[0.0; D]; n];
        for x in particles.iter_mut().flatten() {
            *x = rng.uniform();
            // The number for a velocity, which is zero here.
            rng.uniform();
        }
        Self {
            velocities: vec![[0.0; D]; n],
            best_positions: particles.clone(),
            best_scores: vec![f64::NEG_INFINITY; n],
            global_best: particles[0],
            global_best_score: f64::NEG_INFINITY,
            particles,
        }
    }

    fn step(&mut self, seed: u64, iteration: usize) {
        let (w, c1, c2) = (0.7, 1.5, 1.5);
        let n = self.particles.len();
        for i in 0..n {
            let found = score(&self.particles[i]);
            if found > self.best_scores[i] {
                self.best_scores[i] = found;
                self.best_positions[i] = self.particles[i];
            }
            if found > self.global_best_score {
                self.global_best_score = found;
                self.global_best = self.particles[i];
            }
            let rng = SplitMix64::stream(seed, Purpose::Swarm, 1, 0);
            let mut rng = rng.after(((iteration * n + i) * D) as u64);
            for j in 0..D {
                let word = rng.next_word();
                let (r1, r2) = ((word >> 32) as f64 / 2.0_f64.powi(32), (word as u32) as f64 / 2.0_f64.powi(32));
                let (p, v) = (self.particles[i][j], &mut self.velocities[i][j]);
                *v = w * *v + c1 * r1 * (self.best_positions[i][j] - p) + c2 * r2 * (self.global_best[j] - p);
                self.particles[i][j] = (p + *v).clamp(0.0, 1.0);
            }
        }
    }
}

/// Scores of every evaluation agree to rounding over 30 steps; the optimum lies outside, so that particles hit the wall.
#[test]
fn classic_with_the_seeds_wall_is_the_seeds_listing() {
    let seed = 11;
    let mut listing = MicroSwarm::new(seed, 5);
    let classic = ClassicConfig { bounds: Bounds::Clamp, reinitialize_below: None, ..ClassicConfig::default() };
    let config = SwarmConfig { seed, classic, stop: StopRules::after(1_000), ..SwarmConfig::of(Method::Classic) };
    let mut swarm = Swarm::new(SearchSpace::cube(D, 0.0, 1.0).unwrap(), config).unwrap();
    let mut walls = 0;
    for iteration in 0..30 {
        let trials = swarm.ask_batch(5);
        for (trial, particle) in trials.iter().zip(&listing.particles) {
            for (ours, seeds) in trial.x.iter().zip(particle) {
                assert!((ours - seeds).abs() < 1e-12, "iteration {iteration}: {ours} {seeds}");
            }
            walls += trial.x.iter().filter(|x| **x == 1.0).count();
        }
        listing.step(seed, iteration);
        trials.into_iter().for_each(|trial| swarm.tell(trial.id, -score(&trial.x)).unwrap());
        assert!((swarm.best().unwrap().fitness.value + listing.global_best_score).abs() < 1e-12);
    }
    assert!(walls > 10, "the wall was hardly touched: {walls}");
}

#[test]
fn half_starts_anew_when_the_swarm_has_converged() {
    let space = SearchSpace::cube(2, 0.0, 1.0).unwrap();
    let classic = ClassicConfig { n_particles: 6, reinitialize_below: None, ..ClassicConfig::default() };
    let config = SwarmConfig { classic, stop: StopRules::after(u64::MAX), ..SwarmConfig::of(Method::Classic) };
    let mut swarm = Swarm::new(space, config).unwrap();
    assert!(!swarm.reinitialize_if_converged(0.01));
    while swarm.diversity() >= 0.01 {
        let trial = swarm.ask().unwrap();
        swarm.tell(trial.id, trial.x.iter().map(|x| (x - 0.4).powi(2)).sum::<f64>()).unwrap();
        assert!(swarm.evaluations() < 10_000);
    }
    let before: Vec<_> = swarm.particles().collect();
    let best = swarm.best().cloned();
    assert!(swarm.reinitialize_if_converged(0.01));
    let after: Vec<_> = swarm.particles().collect();
    assert!(before[3..] == after[3..] && (0..3).all(|i| before[i] != after[i]));
    assert!(swarm.diversity() > 0.01);
    assert_eq!(swarm.best(), best.as_ref());
    assert!(!swarm.reinitialize_if_converged(0.01));
}

/// By itself it does so after every round.
#[test]
fn classic_keeps_its_diversity() {
    let space = SearchSpace::cube(4, 0.0, 1.0).unwrap();
    let mut swarm = Swarm::classic(space, 3).unwrap();
    for _ in 0..400 {
        for trial in swarm.ask_batch(5) {
            swarm.tell(trial.id, trial.x.iter().map(|x| (x - 0.4).powi(2)).sum::<f64>()).unwrap();
        }
        assert!(swarm.diversity() > 0.01);
    }
}
