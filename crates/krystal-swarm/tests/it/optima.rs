//! What is found.

use krystal_swarm::{Bounds, ClassicConfig, Method, PsoConfig, SearchSpace, StopRules, Swarm, SwarmConfig, Topology};

fn shifted_sphere(x: &[f64]) -> f64 {
    x.iter().map(|x| (x - 1.5) * (x - 1.5)).sum()
}

/// Where argmin 0.11's swarm fails 11 and 17 times of 20: a sphere around 1.5, walls at -5 and 5, 40 particles, 80,000 evaluations.
#[test]
fn no_swarm_ends_on_the_walls() {
    for d in [20, 30] {
        for seed in 0..20 {
            let pso = PsoConfig { n_particles: 40, ..PsoConfig::default() };
            let config = SwarmConfig { seed, pso, stop: StopRules::after(80_000), ..SwarmConfig::of(Method::Pso) };
            let mut swarm = Swarm::new(SearchSpace::cube(d, -5.0, 5.0).unwrap(), config).unwrap();
            let best = swarm.minimize(shifted_sphere).unwrap().best;
            assert!(best.fitness.value < 1e-2, "d {d} seed {seed}: {best:?}");
        }
    }
}

#[test]
fn every_neighbourhood_and_wall_finds_a_sphere() {
    let topologies = [
        Topology::Star,
        Topology::Ring,
        Topology::VonNeumann,
        Topology::Random { informed: 3 },
        Topology::Dynamic { informed: 3 },
    ];
    for topology in topologies {
        for bounds in [Bounds::Reflect, Bounds::Absorb, Bounds::Periodic] {
            let pso = PsoConfig { topology, bounds, ..PsoConfig::default() };
            let config = SwarmConfig { seed: 1, pso, stop: StopRules::after(20_000), ..SwarmConfig::of(Method::Pso) };
            let mut swarm = Swarm::new(SearchSpace::cube(5, -5.0, 5.0).unwrap(), config).unwrap();
            let best = swarm.minimize(shifted_sphere).unwrap().best;
            assert!(best.fitness.value < 1e-6, "{topology:?} {bounds:?}: {best:?}");
        }
    }
}

#[test]
fn classic_finds_a_sphere() {
    let classic = ClassicConfig { n_particles: 20, ..ClassicConfig::default() };
    let config = SwarmConfig { classic, stop: StopRules::after(20_000), ..SwarmConfig::of(Method::Classic) };
    let mut swarm = Swarm::new(SearchSpace::cube(4, -5.0, 5.0).unwrap(), config).unwrap();
    let best = swarm.minimize(shifted_sphere).unwrap().best;
    assert!(best.fitness.value < 1e-4, "{best:?}");
}

/// Optima in a corner, on a face and next to it: walls neither hide nor hold. (nevergrad's issue 621: clipping lets all particles stick.)
#[test]
fn optima_on_and_near_walls_are_found() {
    let d = 10;
    let corner: Vec<f64> = (0..d).map(|i| if i % 2 == 0 { -5.0 } else { 5.0 }).collect();
    let face: Vec<f64> = (0..d).map(|i| if i == 3 { 5.0 } else { 1.0 }).collect();
    for (name, optimum) in [("corner", corner), ("face", face), ("next to a corner", vec![4.9; d])] {
        for bounds in [Bounds::Reflect, Bounds::Absorb] {
            for seed in 0..5 {
                let pso = PsoConfig { bounds, ..PsoConfig::default() };
                let config = SwarmConfig { seed, pso, stop: StopRules::after(30_000), ..SwarmConfig::of(Method::Pso) };
                let mut swarm = Swarm::new(SearchSpace::cube(d, -5.0, 5.0).unwrap(), config).unwrap();
                let f = |x: &[f64]| x.iter().zip(&optimum).map(|(x, best)| (x - best).powi(2)).sum::<f64>();
                let best = swarm.minimize(f).unwrap().best;
                assert!(best.fitness.value < 1e-6, "{name} {bounds:?} seed {seed}: {best:?}");
            }
        }
    }
}

/// The optimum leaves the wall where the swarm sits: with the seed's wall nobody follows in some runs, with ours all do.
#[test]
fn a_swarm_on_the_wall_can_leave_it() {
    for bounds in [Bounds::Reflect, Bounds::Absorb, Bounds::Periodic] {
        for seed in 0..10 {
            let pso = PsoConfig { bounds, converged_within: None, stagnation: None, ..PsoConfig::default() };
            let config = SwarmConfig { seed, pso, stop: StopRules::after(40_000), ..SwarmConfig::of(Method::Pso) };
            let mut swarm = Swarm::new(SearchSpace::cube(8, -5.0, 5.0).unwrap(), config).unwrap();
            // Steep towards the wall, and beyond a small step a valley one unit away from it that is lower.
            let f = |x: &[f64]| x.iter().map(|x| if *x > 4.5 { 1.0 + 5.0 - x } else { (x - 4.0).abs() }).sum::<f64>();
            let best = swarm.minimize(f).unwrap().best;
            assert!(best.fitness.value < 1e-3, "{bounds:?} seed {seed}: {best:?}");
        }
    }
}
