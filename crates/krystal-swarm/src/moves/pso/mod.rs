//! Particle swarms: velocities, memories, neighbourhoods.

mod config;

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

pub use config::{ClassicConfig, Draws, PsoConfig, Update};

use super::Moves;
use super::motion::{Coefficients, Motion};
use crate::topology::Informants;
use crate::{Bounds, Fitness, Topology};

/// Streams of random numbers of one run, that is until the swarm starts anew.
const BIRTHS: u64 = 0;
const MOTION: u64 = 1;
const TOPOLOGY: u64 = 2;

/// How often a swarm that draws for moves draws for coordinates.
const SHARE_FOR_COORDINATES: f64 = 0.01;

/// A particle swarm; positions belong to whoever owns it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pso {
    config: PsoConfig,
    n_dims: usize,
    seed: u64,
    run: u64,
    /// Times that a particle began at a random place.
    births: u64,
    /// Moves of each particle.
    moves: Vec<u64>,
    velocities: Vec<f64>,
    best_points: Vec<f64>,
    best_fitness: Vec<Fitness>,
    leader: usize,
    informants: Option<Informants>,
    topologies: u64,
    generation: u64,
    /// Generations since the leader's last improvement.
    stagnant: u64,
    has_improved: bool,
    has_converged: bool,
    /// Best points of best informants, row by row: scratch.
    #[serde(skip)]
    social: Vec<f64>,
    /// The stream of motion from its beginning, once it has been needed.
    #[serde(skip)]
    motion: Option<SplitMix64>,
}

impl Pso {
    pub(crate) fn new(config: &PsoConfig, n_dims: usize, seed: u64, run: u64) -> Self {
        let n = config.n_particles;
        let mut pso = Self {
            config: config.clone(),
            n_dims,
            seed,
            run,
            births: 0,
            moves: vec![0; n],
            velocities: vec![0.0; n * n_dims],
            best_points: vec![0.5; n * n_dims],
            best_fitness: vec![Fitness::WORST; n],
            leader: 0,
            informants: None,
            topologies: 0,
            generation: 0,
            stagnant: 0,
            has_improved: false,
            has_converged: false,
            social: Vec::new(),
            motion: None,
        };
        pso.draw_topology();
        pso
    }

    /// Whether what was loaded can move `n` particles.
    pub(crate) fn is_of(&self, n: usize, n_dims: usize) -> bool {
        let rows = [self.config.n_particles, self.moves.len(), self.best_fitness.len()];
        let coordinates = [self.velocities.len(), self.best_points.len()];
        self.n_dims == n_dims
            && rows == [n; 3]
            && coordinates == [n * n_dims; 2]
            && self.leader < n
            && self.informants.as_ref().is_none_or(|informants| informants.are_of(n))
    }

    pub(crate) fn is_asynchronous(&self) -> bool {
        self.config.update == Update::Asynchronous
    }

    pub(crate) fn reinitialize_below(&self) -> Option<f64> {
        self.config.reinitialize_below
    }

    fn stream(&self, stream: u64) -> SplitMix64 {
        SplitMix64::stream(self.seed, Purpose::Swarm, stream, self.run)
    }

    /// Whether this run draws for moves rather than for coordinates.
    fn draws_for_moves(&self) -> bool {
        match self.config.draws {
            Draws::Coordinate => false,
            Draws::Move => true,
            Draws::InTurn => self.run.is_multiple_of(2),
        }
    }

    /// The generator for the next move of particle `i`: of any two moves of any two particles, no number is the same.
    fn rng_of_move(&mut self, i: usize) -> SplitMix64 {
        let start = self.motion.unwrap_or_else(|| self.stream(MOTION));
        self.motion = Some(start);
        // One number more to choose what is drawn for.
        let numbers = self.n_dims + usize::from(self.draws_for_moves());
        start.after((self.moves[i] * self.config.n_particles as u64 + i as u64) * numbers as u64)
    }

    fn draw_topology(&mut self) {
        let mut rng = SplitMix64::stream(self.seed, Purpose::Swarm, TOPOLOGY + self.topologies, self.run);
        self.informants = self.config.topology.informants(self.config.n_particles, &mut rng);
        self.topologies += 1;
    }

    /// Puts particle `i` at a random place; its memory stays.
    pub(crate) fn give_birth(&mut self, i: usize, point: &mut [f64]) {
        let mut rng = self.stream(BIRTHS).after(self.births * 2 * self.n_dims as u64);
        self.births += 1;
        let velocity = &mut self.velocities[i * self.n_dims..][..self.n_dims];
        for (x, v) in point.iter_mut().zip(velocity) {
            *x = rng.uniform();
            *v = self.config.initial_velocity * (rng.uniform() - *x);
        }
    }

    /// Remembers what particle `i` found.
    #[inline]
    pub(crate) fn learn(&mut self, i: usize, point: &[f64], fitness: Fitness) {
        if fitness.beats(&self.best_fitness[i]) {
            self.best_fitness[i] = fitness;
            self.best_points[i * self.n_dims..][..self.n_dims].copy_from_slice(point);
            if i == self.leader || fitness.beats(&self.best_fitness[self.leader]) {
                self.leader = i;
                self.has_improved = true;
            }
        }
    }

    /// After a generation: draws another topology where that is due, and looks whether the swarm has converged.
    pub(crate) fn end_generation(&mut self) {
        self.generation += 1;
        self.stagnant = if self.has_improved { 0 } else { self.stagnant + 1 };
        if !self.has_improved && matches!(self.config.topology, Topology::Dynamic { .. }) {
            self.draw_topology();
        }
        self.has_improved = false;
        let stagnant = self.config.stagnation.is_some_and(|most| self.stagnant >= most);
        // Looking costs as much as a few moves, and nothing is lost by looking late.
        let within = self.config.converged_within.filter(|_| self.generation.is_multiple_of(16));
        self.has_converged = stagnant || within.is_some_and(|within| self.is_within(within));
    }

    fn is_within(&self, distance: f64) -> bool {
        let leader = &self.best_points[self.leader * self.n_dims..][..self.n_dims];
        self.best_points
            .chunks_exact(self.n_dims)
            .all(|point| point.iter().zip(leader).all(|(a, b)| (a - b).abs() <= distance))
    }

    fn best_informant(&self, i: usize) -> usize {
        let Some(informants) = &self.informants else { return self.leader };
        let better =
            |best: usize, j: usize| if self.best_fitness[j].beats(&self.best_fitness[best]) { j } else { best };
        informants.of(i).fold(i, better)
    }

    fn coefficients(&self) -> Coefficients {
        let PsoConfig { inertia, cognitive, social, bounds, .. } = self.config;
        let most = if matches!(bounds, Bounds::Reflect | Bounds::Periodic) { 1.0 } else { f64::INFINITY };
        let velocity_limit = self.config.velocity_limit.unwrap_or(f64::INFINITY).min(most);
        Coefficients { inertia, cognitive, social, velocity_limit }
    }

    /// Moves particle `i` alone.
    pub(crate) fn advance(&mut self, i: usize, point: &mut [f64]) {
        let d = self.n_dims;
        let from = self.best_informant(i);
        let mut rng = self.rng_of_move(i);
        let together = self.draws_for_moves() && rng.uniform() >= SHARE_FOR_COORDINATES;
        Motion {
            coefficients: self.coefficients(),
            rng,
            x: point,
            v: &mut self.velocities[i * d..][..d],
            own: &self.best_points[i * d..][..d],
            social: &self.best_points[from * d..][..d],
        }
        .apply(self.config.bounds, together);
        self.moves[i] += 1;
    }

    /// Moves all particles, drawing for each coordinate: one loop over all, as if they were one. The same as to move them one by one.
    fn advance_all(&mut self, points: &mut [f64]) {
        let d = self.n_dims;
        let mut social = std::mem::take(&mut self.social);
        social.resize(points.len(), 0.0);
        for (i, row) in social.chunks_exact_mut(d).enumerate() {
            row.copy_from_slice(&self.best_points[self.best_informant(i) * d..][..d]);
        }
        let rng = self.rng_of_move(0);
        let coefficients = self.coefficients();
        Motion { coefficients, rng, x: points, v: &mut self.velocities, own: &self.best_points, social: &social }
            .apply(self.config.bounds, false);
        self.moves.iter_mut().for_each(|moves| *moves += 1);
        self.social = social;
    }
}

impl Moves for Pso {
    fn ask(&mut self, points: &mut Vec<f64>) {
        let (n, d) = (self.config.n_particles, self.n_dims);
        if self.births == 0 {
            points.resize(n * d, 0.0);
            for (i, point) in points.chunks_exact_mut(d).enumerate() {
                self.give_birth(i, point);
            }
            return;
        }
        if self.draws_for_moves() {
            points.chunks_exact_mut(d).enumerate().for_each(|(i, point)| self.advance(i, point));
        } else {
            self.advance_all(points);
        }
    }

    fn tell(&mut self, points: &[f64], fitness: &[Fitness]) {
        for (i, (point, fitness)) in points.chunks_exact(self.n_dims).zip(fitness).enumerate() {
            self.learn(i, point, *fitness);
        }
        self.end_generation();
    }

    fn has_converged(&self) -> bool {
        self.has_converged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_at_once_is_one_by_one() {
        let config = PsoConfig { draws: Draws::Coordinate, n_particles: 9, ..PsoConfig::default() };
        let mut together = Pso::new(&config, 5, 7, 0);
        let (mut points, mut others) = (Vec::new(), Vec::new());
        together.ask(&mut points);
        for generation in 0..20 {
            let worth = |point: &[f64]| Fitness::of(point.iter().map(|x| (x - 0.2).powi(2)).sum());
            let fitness: Vec<_> = points.chunks_exact(5).map(worth).collect();
            together.tell(&points, &fitness);
            let mut single = together.clone();
            others.clone_from(&points);
            others.chunks_exact_mut(5).enumerate().for_each(|(i, point)| single.advance(i, point));
            together.ask(&mut points);
            assert_eq!(points, others, "generation {generation}");
            assert_eq!(together.velocities, single.velocities);
        }
    }
}
