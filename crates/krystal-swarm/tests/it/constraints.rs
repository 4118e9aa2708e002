//! Constraint problems with known optima, and walls that are constraints too.

use krystal_swarm::{Dimension, Fitness, Method, SearchSpace, StopRules, Swarm, SwarmConfig};

fn found(space: &SearchSpace, f: impl Fn(&[f64]) -> Fitness, seed: u64, evaluations: u64) -> krystal_swarm::Best {
    let config = SwarmConfig { seed, stop: StopRules::after(evaluations), ..SwarmConfig::of(Method::Pso) };
    Swarm::new(space.clone(), config).unwrap().minimize(f).unwrap().best
}

/// g06 of CEC 2006 (Liang et al., technical report, Nanyang 2006): a thin crescent, 0.0066 % of the box is feasible; the optimum,
/// where both constraints bind, is -6961.81387558015 at (14.09500000000000064, 0.8429607892154795668).
#[test]
fn g06() {
    let space =
        SearchSpace::new(vec![Dimension::float("x1", 13.0, 100.0), Dimension::float("x2", 0.0, 100.0)]).unwrap();
    let f = |x: &[f64]| {
        let inequalities =
            [100.0 - (x[0] - 5.0).powi(2) - (x[1] - 5.0).powi(2), (x[0] - 6.0).powi(2) + (x[1] - 5.0).powi(2) - 82.81];
        Fitness::constrained((x[0] - 10.0).powi(3) + (x[1] - 20.0).powi(3), &inequalities)
    };
    for seed in 0..5 {
        let best = found(&space, f, seed, 50_000);
        assert!(best.fitness.is_feasible());
        assert!((best.fitness.value + 6_961.813_875_58).abs() < 0.5, "seed {seed}: {best:?}");
    }
}

/// g08 of CEC 2006: many optima, the best -0.0958250414180359 at (1.22797135260752599, 4.24537336612274885).
#[test]
fn g08() {
    let space = SearchSpace::cube(2, 0.0, 10.0).unwrap();
    let f = |x: &[f64]| {
        let tau = std::f64::consts::TAU;
        let value = -(tau * x[0]).sin().powi(3) * (tau * x[1]).sin() / (x[0].powi(3) * (x[0] + x[1]));
        Fitness::constrained(value, &[x[0] * x[0] - x[1] + 1.0, 1.0 - x[0] + (x[1] - 4.0).powi(2)])
    };
    for seed in 0..5 {
        let best = found(&space, f, seed, 10_000);
        assert!(best.fitness.is_feasible());
        assert!((best.fitness.value + 0.095_825_041_418_035_9).abs() < 1e-9, "seed {seed}: {best:?}");
    }
}

/// Where nothing is feasible the least violation is found, and said to be infeasible.
#[test]
fn least_violation_where_nothing_is_feasible() {
    let space = SearchSpace::cube(2, -1.0, 1.0).unwrap();
    let best = found(&space, |x| Fitness::constrained(-x[1], &[1.5 - x[0], f64::NEG_INFINITY]), 1, 5_000);
    assert!(!best.fitness.is_feasible());
    assert!((best.x[0] - 1.0).abs() < 1e-9 && (best.fitness.violation - 0.5).abs() < 1e-9, "{best:?}");
    let nan = Fitness::constrained(0.0, &[f64::NAN]);
    assert_eq!(nan.violation, f64::INFINITY);
}
