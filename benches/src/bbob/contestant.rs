//! Who runs on the problems.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use argmin::core::{CostFunction, Executor};
use argmin::solver::particleswarm::ParticleSwarm;
use krystal_math::rng::{Purpose, SplitMix64};
use krystal_swarm::{Method, SearchSpace, StopRules, Swarm, SwarmConfig};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::{Instances, Objective, Reached};

/// The box of every problem is `[-HALF_WIDTH, HALF_WIDTH]^D`.
const HALF_WIDTH: f64 = 5.0;

/// Particles of argmin's swarm.
const ARGMIN_PARTICLES: usize = 40;

/// Who runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// A swarm of ours, with the defaults of its method.
    Ours(Method),
    /// argmin's particle swarm: 40 particles, its defaults.
    Argmin,
    /// Uniform points.
    Random,
}

impl Contestant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ours(Method::Adaptive),
        Self::Ours(Method::Covariance),
        Self::Ours(Method::SuccessHistory),
        Self::Ours(Method::Pso),
        Self::Argmin,
        Self::Random,
    ];

    /// How it is called in keys and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours(Method::Adaptive) => "default",
            Self::Ours(Method::Covariance) => "covariance",
            Self::Ours(Method::SuccessHistory) => "success_history",
            Self::Ours(Method::Pso) => "pso",
            Self::Ours(_) => "classic",
            Self::Argmin => "argmin",
            Self::Random => "random",
        }
    }

    /// Runs until every target is reached or the budget is spent.
    ///
    /// # Errors
    /// Where the swarm or argmin has one.
    pub fn run(self, objective: Objective<'_>) -> anyhow::Result<Reached> {
        match self {
            Self::Ours(method) => ours(method, objective),
            Self::Argmin => run_argmin(objective),
            Self::Random => Ok(random(objective)),
        }
    }
}

/// Runs one contestant on instances 1 to `n` of all functions. Which thread runs what changes nothing.
///
/// # Errors
/// Where a run has one.
pub fn run_all(
    contestant: Contestant,
    dimension: usize,
    n: usize,
    budget: u64,
    threads: usize,
) -> anyhow::Result<Vec<Reached>> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::new());
    let work = || -> anyhow::Result<()> {
        let mut instances = Instances::new(dimension, n)?;
        loop {
            let k = next.fetch_add(1, Ordering::Relaxed);
            if k >= 24 * n {
                return Ok(());
            }
            let reached = contestant.run(instances.objective(k / n + 1, k % n + 1, budget, None)?)?;
            all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(reached);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a run does not panic"))
    })?;
    let mut all = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.sort_unstable();
    Ok(all)
}

fn ours(method: Method, mut objective: Objective<'_>) -> anyhow::Result<Reached> {
    let stop = StopRules { target: Some(objective.optimum() + 1e-8), ..StopRules::after(objective.budget()) };
    let config = SwarmConfig { seed: objective.seed(), stop, ..SwarmConfig::of(method) };
    let space = SearchSpace::cube(objective.dimension(), -HALF_WIDTH, HALF_WIDTH)?;
    Swarm::new(space, config)?.minimize_observed(|x| objective.value(x), |_| ControlFlow::Continue(()))?;
    Ok(objective.into_reached())
}

/// argmin takes an objective it cannot change.
struct Shared<'suite>(RefCell<Objective<'suite>>);

impl CostFunction for &Shared<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, x: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        Ok(self.0.borrow_mut().value(x))
    }
}

fn run_argmin(objective: Objective<'_>) -> anyhow::Result<Reached> {
    let (dimension, seed) = (objective.dimension(), objective.seed());
    let (iterations, target) = (objective.budget() / ARGMIN_PARTICLES as u64, objective.optimum() + 1e-8);
    let shared = Shared(RefCell::new(objective));
    let bounds = (vec![-HALF_WIDTH; dimension], vec![HALF_WIDTH; dimension]);
    let solver =
        ParticleSwarm::new(bounds, ARGMIN_PARTICLES).with_rng_generator(Xoshiro256PlusPlus::seed_from_u64(seed));
    Executor::new(&shared, solver).configure(|state| state.max_iters(iterations).target_cost(target)).run()?;
    Ok(shared.0.into_inner().into_reached())
}

fn random(mut objective: Objective<'_>) -> Reached {
    let mut rng = SplitMix64::stream(objective.seed(), Purpose::SelfCheck, 0, 0);
    let mut x = vec![0.0; objective.dimension()];
    while !objective.is_over() {
        x.fill_with(|| HALF_WIDTH * (2.0 * rng.uniform() - 1.0));
        objective.value(&x);
    }
    objective.into_reached()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_nothing_and_everybody_reaches_something() {
        for contestant in Contestant::ALL {
            let one = run_all(contestant, 2, 1, 100, 1).unwrap();
            assert_eq!(run_all(contestant, 2, 1, 100, 2).unwrap(), one, "{contestant:?}");
            assert_eq!(one.len(), 24);
            assert!(one.iter().any(|run| !run.after.is_empty()), "{contestant:?}");
        }
    }
}
