//! What holds for every configuration that is accepted.

use krystal_swarm::{
    Bounds, ClassicConfig, Dimension, Draws, PsoConfig, SearchSpace, StopRules, Swarm, SwarmConfig, Topology, Update,
};
use proptest::prelude::*;

use crate::METHODS;

fn topology() -> impl Strategy<Value = Topology> {
    prop_oneof![
        Just(Topology::Star),
        Just(Topology::Ring),
        Just(Topology::VonNeumann),
        (1_usize..6).prop_map(|informed| Topology::Random { informed }),
        (1_usize..6).prop_map(|informed| Topology::Dynamic { informed }),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    prop::sample::select(vec![Bounds::Reflect, Bounds::Absorb, Bounds::Periodic, Bounds::Clamp])
}

fn draws() -> impl Strategy<Value = Draws> {
    prop::sample::select(vec![Draws::Coordinate, Draws::Move, Draws::InTurn])
}

fn pso() -> impl Strategy<Value = PsoConfig> {
    let pulls = (0.0..0.99, 0.0..4.0, 0.0..4.0, 0.0..10.0);
    let optional = (
        prop::option::of(1e-3..5.0_f64),
        prop::option::of(0.0..0.1_f64),
        prop::option::of(1_u64..20),
        prop::option::of(0.0..0.3_f64),
    );
    (1_usize..20, pulls, topology(), bounds(), any::<bool>(), draws(), optional).prop_map(
        |(n_particles, (inertia, cognitive, social, initial_velocity), topology, bounds, waits, draws, optional)| {
            PsoConfig {
                n_particles,
                inertia,
                cognitive,
                social,
                topology,
                bounds,
                update: if waits { Update::Synchronous } else { Update::Asynchronous },
                draws,
                velocity_limit: optional.0,
                initial_velocity,
                converged_within: optional.1,
                stagnation: optional.2,
                reinitialize_below: optional.3,
            }
        },
    )
}

fn swarm_config() -> impl Strategy<Value = SwarmConfig> {
    (any::<u64>(), prop::sample::select(METHODS.to_vec()), pso(), 1_usize..9, bounds()).prop_map(
        |(seed, method, pso, n_particles, bounds)| SwarmConfig {
            seed,
            pso,
            classic: ClassicConfig { n_particles, bounds, ..ClassicConfig::default() },
            stop: StopRules::after(400),
            ..SwarmConfig::of(method)
        },
    )
}

fn dimension(at: usize) -> impl Strategy<Value = Dimension> {
    prop_oneof![
        (-1e3..1e3, 1e-3..1e6).prop_map(move |(low, width)| Dimension::float(format!("d{at}"), low, low + width)),
        (1e-9..1e3, 1.1..1e6).prop_map(move |(low, times)| Dimension::float(format!("d{at}"), low, low * times).log()),
        (-50_i64..50, 0_i64..50).prop_map(move |(low, width)| Dimension::integer(format!("d{at}"), low, low + width)),
        (1_i64..50, 0_i64..5_000)
            .prop_map(move |(low, width)| Dimension::integer(format!("d{at}"), low, low + width).log()),
        (1_usize..6).prop_map(move |n| Dimension::categorical(format!("d{at}"), (0..n).map(|i| format!("c{i}")))),
    ]
}

fn space() -> impl Strategy<Value = SearchSpace> {
    (dimension(0), dimension(1), dimension(2)).prop_map(|(a, b, c)| SearchSpace::new(vec![a, b, c]).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever comes back, in whatever order: points are of the space, nothing panics, and the file goes on as the swarm does.
    #[test]
    fn points_stay_in_the_space(config in swarm_config(), space in space(), values in prop::collection::vec(any::<f64>(), 30)) {
        let method = config.method;
        let mut swarm = Swarm::new(space.clone(), config).unwrap();
        let mut n = 0;
        while swarm.stopped().is_none() {
            let mut trials = swarm.ask_batch(1 + n % 7);
            if trials.is_empty() {
                trials = swarm.pending();
            }
            prop_assert!(!trials.is_empty(), "{method:?} hands out nothing and waits for nothing");
            for trial in trials.into_iter().rev() {
                prop_assert!(space.values(&trial.x).is_ok(), "{:?}", trial);
                n += 1;
                match n % 11 {
                    3 => swarm.abandon(trial.id).unwrap(),
                    5 => swarm.fail(trial.id).unwrap(),
                    7 => {}
                    _ => swarm.tell(trial.id, values[n % values.len()]).unwrap(),
                }
            }
            if n.is_multiple_of(13) {
                swarm = Swarm::from_bytes(&swarm.to_bytes().unwrap()).unwrap();
            }
        }
        if let Some(best) = swarm.best() {
            prop_assert!(best.fitness.value.is_finite() && space.values(&best.x).is_ok());
        }
    }

    /// What is asked back by name is what was given, but for the rounding of logarithms.
    #[test]
    fn values_go_there_and_back(space in space(), seed: u64) {
        let mut swarm = Swarm::pso(space.clone(), seed).unwrap();
        for trial in swarm.ask_batch(5) {
            let values = space.values(&trial.x).unwrap();
            prop_assert_eq!(&space.point(values).unwrap(), &trial.x);
            let mut again = Swarm::pso(space.clone(), 0).unwrap();
            again.suggest(&trial.x).unwrap();
            for (ours, given) in again.ask().unwrap().x.iter().zip(&trial.x) {
                prop_assert!((ours - given).abs() <= 1e-9 * given.abs().max(1.0), "{} {}", ours, given);
            }
        }
    }
}
