//! Structural bias: where a swarm goes when the function says nothing.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_swarm::{Bounds, Method, PsoConfig, SearchSpace, StopRules, Swarm, SwarmConfig, Topology};

/// The signature test of Kononova et al. (2015, doi:10.1016/j.ins.2014.11.035): on a function that is noise, the best point of a search
/// lies anywhere. Kolmogorov and Smirnov's distance of the best points' coordinates from uniform, and the share of them that lies exactly
/// on a wall, over 150 searches of 2,000 evaluations in four dimensions.
fn bias(pso: &PsoConfig) -> (f64, f64) {
    let mut finals = Vec::new();
    for seed in 0..150 {
        let config =
            SwarmConfig { seed, pso: pso.clone(), stop: StopRules::after(2_000), ..SwarmConfig::of(Method::Pso) };
        let mut noise = SplitMix64::stream(seed, Purpose::SelfCheck, 1, 0);
        let mut swarm = Swarm::new(SearchSpace::cube(4, 0.0, 1.0).unwrap(), config).unwrap();
        finals.extend(swarm.minimize(|_| noise.uniform()).unwrap().best.x);
    }
    finals.sort_unstable_by(f64::total_cmp);
    let n = finals.len() as f64;
    let off = |(i, x): (usize, &f64)| (x - i as f64 / n).abs().max((x - (i + 1) as f64 / n).abs());
    let distance = finals.iter().enumerate().map(off).fold(0.0, f64::max);
    (distance, finals.iter().filter(|x| **x == 0.0 || **x == 1.0).count() as f64 / n)
}

/// Of 600 coordinates, the distance exceeds 0.1 by chance about once in 10^5 (2 exp(-2 n d^2)), and none lies on a wall.
#[test]
fn noise_shows_which_walls_have_a_bias() {
    let of = |bounds| PsoConfig { bounds, ..PsoConfig::default() };
    let (distance, on_walls) = bias(&of(Bounds::Periodic));
    assert!(distance < 0.1 && on_walls == 0.0, "{distance} {on_walls}");
    // Particles go between remembered points, so that between walls they lean to the middle, as all particle swarms do: 0.13 here.
    let (distance, on_walls) = bias(&of(Bounds::Reflect));
    assert!(distance < 0.2 && on_walls == 0.0, "{distance} {on_walls}");
    // The seed's wall collects particles, and the test sees it.
    let (_, on_walls) = bias(&PsoConfig { velocity_limit: None, topology: Topology::Star, ..of(Bounds::Clamp) });
    assert!(on_walls > 0.1, "{on_walls}");
}
