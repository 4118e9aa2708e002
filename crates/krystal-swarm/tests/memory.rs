//! A generation allocates nothing. One test, alone in its process: the count is of the whole process.

use std::ops::ControlFlow;

use krystal_swarm::{Method, SearchSpace, StopRules, Swarm, SwarmConfig};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn rosenbrock(x: &[f64]) -> f64 {
    x.windows(2).map(|x| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2)).sum()
}

/// From the fourth generation after a start on, what is allocated is what was allocated before, to the byte, and never was more.
#[test]
fn a_generation_allocates_nothing() {
    for method in [Method::Classic, Method::Pso, Method::SuccessHistory, Method::Covariance, Method::Adaptive] {
        let config = SwarmConfig { stop: StopRules::after(20_000), ..SwarmConfig::of(method) };
        let mut swarm = Swarm::new(SearchSpace::cube(10, -5.0, 5.0).unwrap(), config).unwrap();
        let (mut run, mut since, mut before, mut n) = (0, 0, 0, 0);
        let observe = |swarm: &Swarm| {
            since = if swarm.restarts() == run { since + 1 } else { 0 };
            if since > 3 {
                let now = (ALLOCATOR.peak_usage(), ALLOCATOR.current_usage());
                assert_eq!(now, (before, before), "{method:?}, generation {}", swarm.generations());
                n += 1;
            }
            run = swarm.restarts();
            ALLOCATOR.reset_peak_usage();
            before = ALLOCATOR.current_usage();
            ControlFlow::Continue(())
        };
        swarm.minimize_observed(rosenbrock, observe).unwrap();
        assert!(n > 300, "{method:?}: {n}");
    }
}
