//! A generation allocates nothing. One test, alone in its process: the count is of the whole process.

use std::ops::ControlFlow;

use krystal_swarm::{Method, PsoConfig, SearchSpace, StopRules, Swarm, SwarmConfig, Topology};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[test]
fn a_generation_allocates_nothing() {
    for (method, topology) in
        [(Method::Classic, Topology::Star), (Method::Pso, Topology::Star), (Method::Pso, Topology::VonNeumann)]
    {
        let pso = PsoConfig { topology, converged_within: None, stagnation: None, ..PsoConfig::default() };
        let stop = StopRules::after(20_000);
        let config = SwarmConfig { pso, stop, ..SwarmConfig::of(method) };
        let mut swarm = Swarm::new(SearchSpace::cube(30, -5.0, 5.0).unwrap(), config).unwrap();
        let (mut seen, mut bytes) = (0, 0);
        // From the third generation on what is allocated stays so to the byte, and was never more.
        let observe = |_: &Swarm| {
            seen += 1;
            match seen {
                1 | 2 => {
                    ALLOCATOR.reset_peak_usage();
                    bytes = ALLOCATOR.current_usage();
                }
                _ => assert_eq!((ALLOCATOR.peak_usage(), ALLOCATOR.current_usage()), (bytes, bytes), "{method:?}"),
            }
            ControlFlow::Continue(())
        };
        swarm.minimize_observed(|x| x.iter().map(|x| x * x).sum::<f64>(), observe).unwrap();
        assert!(seen > 100);
    }
}
