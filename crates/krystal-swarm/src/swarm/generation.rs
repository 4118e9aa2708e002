//! The present generation: which rows are out, which are back, and what follows.

use super::{Best, Slot, Swarm};
use crate::moves::{Kind, Moves};
use crate::{Error, Fitness, Stop};

impl Swarm {
    pub(crate) fn most_evaluations(&self) -> u64 {
        self.config.stop.most_evaluations(self.space.n_coordinates())
    }

    pub(super) fn n_pending(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Asked(_))).count() + self.orphans.len()
    }

    pub(super) fn row_of(&self, id: u64) -> Result<usize, Error> {
        self.slots.iter().position(|slot| *slot == Slot::Asked(id)).ok_or(Error::UnknownTrial { id })
    }

    fn row(&self, row: usize) -> &[f64] {
        let d = self.space.n_coordinates();
        &self.points[row * d..][..d]
    }

    pub(super) fn point(&self, row: usize) -> Vec<f64> {
        self.decoded(self.row(row))
    }

    pub(super) fn decoded(&self, row: &[f64]) -> Vec<f64> {
        let mut x = vec![0.0; self.space.n_dims()];
        self.space.decode(row, &mut x);
        x
    }

    pub(crate) fn decode(&self, row: usize, x: &mut [f64]) {
        self.space.decode(self.row(row), x);
    }

    /// Rows to be evaluated before the generation ends, in the order of [`next_row`](Self::next_row).
    #[cfg(feature = "rayon")]
    pub(crate) fn rows_ahead(&self) -> impl Iterator<Item = usize> {
        self.waiting().take(self.slots.len() - self.n_told)
    }

    /// The points that so many calls of [`next_row`](Self::next_row) will lead to, one after another.
    #[cfg(feature = "rayon")]
    pub(crate) fn points_ahead(&self, n: usize) -> Vec<f64> {
        let (d, n_dims) = (self.space.n_coordinates(), self.space.n_dims());
        let mut suggested = self.suggested.iter().rev();
        let mut points = vec![0.0; n * n_dims];
        for (row, x) in self.waiting().zip(points.chunks_exact_mut(n_dims)) {
            let suggested = if self.slots[row] == Slot::Waiting { suggested.next() } else { None };
            self.space.decode(suggested.map_or(&self.points[row * d..][..d], Vec::as_slice), x);
        }
        points
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        let n = self.slots.len();
        let from_cursor = (self.cursor..n).chain(0..self.cursor);
        from_cursor.filter(|&row| matches!(self.slots[row], Slot::Waiting | Slot::Abandoned))
    }

    /// The next row to evaluate, which may have become a suggested point.
    #[inline]
    pub(crate) fn next_row(&mut self) -> Option<usize> {
        let row = self.waiting().next()?;
        self.cursor = if row + 1 == self.slots.len() { 0 } else { row + 1 };
        if self.slots[row] == Slot::Waiting
            && let Some(suggested) = self.suggested.pop()
        {
            self.points[row * suggested.len()..][..suggested.len()].copy_from_slice(&suggested);
        }
        Some(row)
    }

    /// Takes back what is pending, for somebody who evaluates everything himself.
    pub(crate) fn abandon_all(&mut self) {
        self.orphans.clear();
        for row in (0..self.slots.len()).rev() {
            if matches!(self.slots[row], Slot::Asked(_)) {
                self.slots[row] = Slot::Abandoned;
                self.cursor = row;
            }
        }
    }

    #[inline]
    pub(crate) fn tell_row(&mut self, row: usize, fitness: Fitness) {
        let d = self.space.n_coordinates();
        let points = std::mem::take(&mut self.points);
        let fitness = self.judge(&points[row * d..][..d], fitness);
        self.points = points;
        self.fitness[row] = fitness;
        self.n_told += 1;
        let complete = self.n_told == self.slots.len();
        if let Some(pso) = self.moves.pso().filter(|pso| pso.is_asynchronous()) {
            let point = &mut self.points[row * d..][..d];
            pso.learn(row, point, fitness);
            pso.advance(row, point);
            self.slots[row] = Slot::Waiting;
            if complete {
                pso.end_generation();
                self.n_told = 0;
                self.end_generation();
            }
        } else {
            self.slots[row] = Slot::Told;
            if complete {
                self.moves.tell(&self.points, &self.fitness);
                self.end_generation();
            }
        }
    }

    /// Counts an evaluation, keeps the point if it is the best, and says what it is worth to the swarm.
    #[inline]
    pub(super) fn judge(&mut self, row: &[f64], fitness: Fitness) -> Fitness {
        let is_worth_something = fitness.value.is_finite() && !fitness.violation.is_nan();
        let fitness = if is_worth_something { fitness } else { Fitness::WORST };
        self.evaluations += 1;
        self.failures += u64::from(!is_worth_something);
        if is_worth_something && self.best.as_ref().is_none_or(|best| fitness.beats(&best.fitness)) {
            self.improve(row, fitness);
        }
        self.check_evaluations();
        fitness
    }

    fn improve(&mut self, row: &[f64], fitness: Fitness) {
        let n_dims = self.space.n_dims();
        let best = self.best.get_or_insert_with(|| Best { x: vec![0.0; n_dims], fitness, evaluation: 0 });
        self.space.decode(row, &mut best.x);
        (best.fitness, best.evaluation) = (fitness, self.evaluations);
        self.check_target();
    }

    fn end_generation(&mut self) {
        self.generations += 1;
        self.check_generations();
        if self.config.stop.diversity.is_some_and(|least| self.diversity() < least) {
            self.stop(Stop::Diversity);
        }
        if self.moves.has_converged() {
            self.restarts += 1;
            self.moves = Kind::new(&self.config, self.space.n_coordinates(), self.restarts);
            for row in 0..self.slots.len() {
                if let Slot::Asked(id) = self.slots[row] {
                    self.orphans.push((id, self.row(row).to_vec()));
                }
            }
            self.points.clear();
            self.slots.clear();
        }
        if self.moves.is_asynchronous() && !self.slots.is_empty() {
            self.reinitialize();
        } else {
            self.begin_generation();
        }
    }

    fn reinitialize(&mut self) {
        if let Some(below) = self.moves.pso().and_then(|pso| pso.reinitialize_below()) {
            self.reinitialize_if_converged(below);
        }
    }

    pub(super) fn begin_generation(&mut self) {
        self.moves.ask(&mut self.points);
        let n = self.points.len() / self.space.n_coordinates();
        self.fitness.clear();
        self.fitness.resize(n, Fitness::WORST);
        self.slots.clear();
        self.slots.resize(n, Slot::Waiting);
        (self.n_told, self.cursor) = (0, 0);
        self.reinitialize();
    }

    pub(crate) fn stop(&mut self, stop: Stop) {
        self.stopped.get_or_insert(stop);
    }

    pub(super) fn check_evaluations(&mut self) {
        if self.evaluations >= self.most_evaluations() {
            self.stop(Stop::Evaluations);
        }
        let since = self.evaluations - self.best.as_ref().map_or(0, |best| best.evaluation);
        if self.config.stop.no_improvement.is_some_and(|most| since >= most) {
            self.stop(Stop::NoImprovement);
        }
    }

    pub(super) fn check_target(&mut self) {
        let reached = |target: f64| self.best.as_ref().is_some_and(|best| !Fitness::of(target).beats(&best.fitness));
        if self.config.stop.target.is_some_and(reached) {
            self.stop(Stop::Target);
        }
    }

    pub(super) fn check_generations(&mut self) {
        if self.config.stop.generations.is_some_and(|most| self.generations >= most) {
            self.stop(Stop::Generations);
        }
    }
}
