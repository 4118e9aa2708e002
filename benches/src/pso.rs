//! Particle swarms on a sphere: moves and evaluations a second, ours and argmin's.

use std::time::Instant;

use krystal_swarm::{Draws, Method, PsoConfig, SearchSpace, StopRules, Swarm, SwarmConfig, Topology};

/// Dimensions.
pub const DIMS: usize = 30;

/// Particles.
pub const PARTICLES: usize = 50;

/// The box is `[-HALF_WIDTH, HALF_WIDTH]^DIMS`.
const HALF_WIDTH: f64 = 5.0;

/// In four sums, so that the time is the swarm's and not that of additions which wait for each other; both get this function.
fn sphere(x: &[f64]) -> f64 {
    let (fours, rest) = x.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four) {
            *sum += x * x;
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|x| x * x).sum::<f64>()
}

/// Particle updates a second of our swarm on one thread, everybody listening to everybody as in argmin, over so many generations.
///
/// # Errors
/// None.
pub fn ours(generations: u64, seed: u64) -> anyhow::Result<f64> {
    let pso = PsoConfig {
        n_particles: PARTICLES,
        topology: Topology::Star,
        draws: Draws::Coordinate,
        converged_within: None,
        stagnation: None,
        ..PsoConfig::default()
    };
    let stop = StopRules::after(generations * PARTICLES as u64);
    let config = SwarmConfig { seed, pso, stop, ..SwarmConfig::of(Method::Pso) };
    let start = Instant::now();
    let outcome = Swarm::new(SearchSpace::cube(DIMS, -HALF_WIDTH, HALF_WIDTH)?, config)?.minimize(sphere)?;
    Ok(outcome.evaluations as f64 / start.elapsed().as_secs_f64())
}

/// The same of argmin.
///
/// # Errors
/// Where argmin has one.
#[cfg(feature = "peers")]
pub fn argmin(generations: u64, seed: u64) -> anyhow::Result<f64> {
    use argmin::core::{CostFunction, Error, Executor};
    use argmin::solver::particleswarm::ParticleSwarm;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    struct Sphere;

    impl CostFunction for Sphere {
        type Param = Vec<f64>;
        type Output = f64;

        fn cost(&self, x: &Vec<f64>) -> Result<f64, Error> {
            Ok(sphere(x))
        }
    }

    let start = Instant::now();
    let bounds = (vec![-HALF_WIDTH; DIMS], vec![HALF_WIDTH; DIMS]);
    let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let solver = ParticleSwarm::new(bounds, PARTICLES).with_rng_generator(rng);
    let done = Executor::new(Sphere, solver).configure(|state| state.max_iters(generations)).run()?;
    anyhow::ensure!(done.state.iter == generations, "argmin stopped after {} generations", done.state.iter);
    Ok((generations * PARTICLES as u64) as f64 / start.elapsed().as_secs_f64())
}
