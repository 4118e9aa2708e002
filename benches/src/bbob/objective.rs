//! COCO's problems, counted.

use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use coco_rs::{LogLevel, Observer, Problem, Suite, suite};

use super::reached::{Reached, TARGETS, target};

/// COCO makes problems with tables that all of them share; once made, they share nothing.
static MAKING: Mutex<()> = Mutex::new(());

/// The problems of one dimension. Each thread has its own.
pub struct Instances {
    suite: Suite,
    dimension: usize,
}

impl Instances {
    /// Instances 1 to `n` of the 24 functions.
    ///
    /// # Errors
    /// Where COCO has no such dimension.
    pub fn new(dimension: usize, n: usize) -> anyhow::Result<Self> {
        let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        LogLevel::Warning.set();
        let suite = Suite::new(suite::Name::Bbob, &format!("instances: 1-{n}"), &format!("dimensions: {dimension}"))
            .with_context(|| format!("COCO has no problems of dimension {dimension}"))?;
        Ok(Self { suite, dimension })
    }

    /// One of them, with `budget` evaluations for each coordinate; an observer writes what it sees.
    ///
    /// # Errors
    /// Where COCO has no such problem.
    pub fn objective(
        &mut self,
        function: usize,
        instance: usize,
        budget: u64,
        observer: Option<&Observer>,
    ) -> anyhow::Result<Objective<'_>> {
        let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let dimension = self.dimension;
        let mut problem = self
            .suite
            .problem_by_function_dimension_instance(function, dimension, instance)
            .with_context(|| format!("COCO has no f{function}, instance {instance}, dimension {dimension}"))?;
        if let Some(observer) = observer {
            problem.add_observer(observer);
        }
        let reached = Reached { function, instance, dimension, after: Vec::with_capacity(TARGETS) };
        Ok(Objective { problem, budget: budget * dimension as u64, evaluations: 0, reached })
    }
}

/// A problem that counts evaluations and notes when targets are reached.
pub struct Objective<'suite> {
    problem: Problem<'suite>,
    budget: u64,
    evaluations: u64,
    reached: Reached,
}

impl Objective<'_> {
    /// The value at a point. Once the [run is over](Self::is_over) nothing is noted any more.
    pub fn value(&mut self, x: &[f64]) -> f64 {
        let mut y = [0.0];
        if self.is_over() {
            return f64::INFINITY;
        }
        self.problem.evaluate_function(x, &mut y);
        self.evaluations += 1;
        let above = y[0] - self.optimum();
        while self.reached.after.len() < TARGETS && above <= target(self.reached.after.len()) {
            self.reached.after.push(self.evaluations);
        }
        y[0]
    }

    /// Whether the budget is spent or every target reached.
    pub fn is_over(&self) -> bool {
        self.evaluations >= self.budget || self.reached.after.len() == TARGETS
    }

    /// The least value there is. COCO tells the last target, which is that and 10^-8.
    pub fn optimum(&self) -> f64 {
        self.problem.final_target_value() - 1e-8
    }

    /// Coordinates.
    pub fn dimension(&self) -> usize {
        self.reached.dimension
    }

    /// All evaluations that may be made.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// A seed for whoever runs on this problem.
    pub fn seed(&self) -> u64 {
        (self.reached.function * 1000 + self.reached.instance) as u64
    }

    /// What was reached.
    pub fn into_reached(self) -> Reached {
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that COCO's own Python interface gives (coco-experiment 2.8.2).
    #[test]
    fn values_are_cocos() {
        let mut instances = Instances::new(5, 5).unwrap();
        let mut sphere = instances.objective(1, 1, 10, None).unwrap();
        assert!((sphere.value(&[0.0; 5]) - 92.303_975_68).abs() < 1e-8);
        assert!((sphere.value(&[1.0; 5]) - 102.068_775_68).abs() < 1e-8);
        drop(sphere);
        let optima = [(1, 1, 79.48), (1, 3, -247.11), (2, 4, 320.19), (6, 3, -1000.0), (9, 5, 65.61), (10, 2, 59.13)];
        for (function, instance, optimum) in optima {
            let objective = instances.objective(function, instance, 10, None).unwrap();
            assert!((objective.optimum() - optimum).abs() < 1e-9, "f{function}, instance {instance}");
        }
    }

    #[test]
    fn nothing_is_noted_beyond_the_budget() {
        let mut instances = Instances::new(2, 1).unwrap();
        let mut sphere = instances.objective(1, 1, 2, None).unwrap();
        for _ in 0..4 {
            assert!(sphere.value(&[5.0, 5.0]).is_finite());
        }
        assert!(sphere.is_over() && sphere.value(&[0.0; 2]).is_infinite());
        assert!(sphere.into_reached().after.iter().all(|after| *after <= 4));
    }
}
