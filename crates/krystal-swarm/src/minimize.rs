//! Searches whose objective is a function.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Best, Error, Fitness, Stop, Swarm};

/// How a search ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The best point and what it is worth.
    pub best: Best,
    /// Evaluations made, all searches of this swarm together.
    pub evaluations: u64,
    /// Which rule ended it.
    pub stop: Stop,
}

impl Swarm {
    /// Searches until a rule stops it.
    ///
    /// The objective gets one number a dimension, and gives a number or, where there are constraints, a [`Fitness`]. Trials that were
    /// asked and not told are evaluated here.
    ///
    /// ```
    /// use krystal_swarm::{SearchSpace, Swarm};
    ///
    /// let mut swarm = Swarm::pso(SearchSpace::cube(3, -5.0, 5.0)?, 7)?;
    /// let outcome = swarm.minimize(|x| x.iter().map(|x| (x - 1.5).powi(2)).sum::<f64>())?;
    /// assert!(outcome.best.fitness.value < 1e-8);
    /// # Ok::<(), krystal_swarm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ObjectivePanicked`], with the best kept and the point counted as failed; [`Error::NothingFinite`].
    pub fn minimize<R: Into<Fitness>>(&mut self, objective: impl FnMut(&[f64]) -> R) -> Result<Outcome, Error> {
        self.minimize_observed(objective, |_| ControlFlow::Continue(()))
    }

    /// As [`minimize`](Self::minimize), with an observer that sees the swarm after every generation and may stop it.
    ///
    /// # Errors
    /// As [`minimize`](Self::minimize).
    pub fn minimize_observed<R: Into<Fitness>>(
        &mut self,
        mut objective: impl FnMut(&[f64]) -> R,
        mut observe: impl FnMut(&Self) -> ControlFlow<()>,
    ) -> Result<Outcome, Error> {
        self.abandon_all();
        let mut x = vec![0.0; self.space().n_dims()];
        while self.stopped().is_none() {
            let Some(row) = self.next_row() else { break };
            self.decode(row, &mut x);
            match catch_unwind(AssertUnwindSafe(|| objective(&x).into())) {
                Ok(fitness) => self.tell_and_observe(row, fitness, &mut observe),
                Err(panic) => return Err(self.panicked(row, &*panic)),
            }
        }
        self.outcome()
    }

    /// As [`minimize`](Self::minimize), with the points of a generation evaluated by rayon's threads. The outcome is the same, whatever
    /// the number of threads; points beyond the one that reaches the target are evaluated in vain.
    ///
    /// # Errors
    /// As [`minimize`](Self::minimize).
    #[cfg(feature = "rayon")]
    pub fn minimize_parallel<R: Into<Fitness>>(
        &mut self,
        objective: impl Fn(&[f64]) -> R + Sync,
    ) -> Result<Outcome, Error> {
        self.minimize_parallel_observed(objective, |_| ControlFlow::Continue(()))
    }

    /// As [`minimize_parallel`](Self::minimize_parallel), with an observer that sees the swarm after every generation and may stop it.
    ///
    /// # Errors
    /// As [`minimize`](Self::minimize).
    #[cfg(feature = "rayon")]
    pub fn minimize_parallel_observed<R: Into<Fitness>>(
        &mut self,
        objective: impl Fn(&[f64]) -> R + Sync,
        mut observe: impl FnMut(&Self) -> ControlFlow<()>,
    ) -> Result<Outcome, Error> {
        use rayon::prelude::*;

        self.abandon_all();
        let n_dims = self.space().n_dims();
        let evaluate = |x: &[f64]| catch_unwind(AssertUnwindSafe(|| objective(x).into()));
        while self.stopped().is_none() {
            let left = usize::try_from(self.most_evaluations() - self.evaluations()).unwrap_or(usize::MAX);
            let points = self.points_ahead(self.rows_ahead().count().min(left));
            let found: Vec<_> = points.par_chunks_exact(n_dims).map(evaluate).collect();
            for found in found {
                let (None, Some(row)) = (self.stopped(), self.next_row()) else { break };
                match found {
                    Ok(fitness) => self.tell_and_observe(row, fitness, &mut observe),
                    Err(panic) => return Err(self.panicked(row, &*panic)),
                }
            }
        }
        self.outcome()
    }

    fn tell_and_observe(&mut self, row: usize, fitness: Fitness, observe: &mut impl FnMut(&Self) -> ControlFlow<()>) {
        let generations = self.generations();
        self.tell_row(row, fitness);
        if self.generations() > generations && observe(self).is_break() {
            self.stop(Stop::Observer);
        }
    }

    fn panicked(&mut self, row: usize, panic: &(dyn Any + Send)) -> Error {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("no message").to_owned();
        self.tell_row(row, Fitness::WORST);
        Error::ObjectivePanicked { evaluation: self.evaluations(), message }
    }

    fn outcome(&self) -> Result<Outcome, Error> {
        let evaluations = self.evaluations();
        let best = self.best().cloned().ok_or(Error::NothingFinite { evaluations })?;
        Ok(Outcome { best, evaluations, stop: self.stopped().unwrap_or(Stop::Evaluations) })
    }
}
