//! The mountain car with eight tilings of 8 x 8 tiles. `rl_oracle2.py`: mean of the last 50 of 300 episodes 131.1 +- 6.2 steps; the book's
//! figure 10.2 settles between 120 and 150.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{
    ActionValues, ActionValuesConfig, Active, Next, TileAxis, TileCoder, TileConfig, TileIndex, TraceKind,
    greedy_random_ties,
};

use crate::problems::mountain_car::MountainCar;

/// Gymnasium 1.4 from -0.5, pushing along the velocity: the goal in 124 steps.
#[test]
fn dynamics_are_gymnasiums() {
    let mut car = MountainCar { x: -0.5, v: 0.0 };
    let steps = (1..1000).find(|_| car.step(if car.v >= 0.0 { 2 } else { 0 }));
    assert_eq!(steps, Some(124));
}

/// Mean steps of the last 50 of `n_episodes`, and of the first.
fn learn(run: u64, index: TileIndex, config: ActionValuesConfig, n_episodes: usize, true_online: bool) -> (f64, f64) {
    let axes = vec![TileAxis { low: -1.2, high: 0.5, tiles: 8 }, TileAxis { low: -0.07, high: 0.07, tiles: 8 }];
    let coder = TileCoder::new(TileConfig { axes, tilings: 8, index }).unwrap();
    let mut q = ActionValues::<f64>::new(coder.n_features(), 3, config).unwrap();
    let mut rng = SplitMix64::stream(6, Purpose::Simulation, run, 0);
    let mut lengths = Vec::new();
    for _ in 0..n_episodes {
        let mut car = MountainCar { x: -0.6 + 0.2 * rng.uniform(), v: 0.0 };
        let (mut tiles, mut next_tiles, mut values) = ([0; 8], [0; 8], [0.0; 3]);
        coder.active(&[car.x, car.v], &mut tiles).unwrap();
        q.values(&Active(&tiles), &mut values).unwrap();
        let mut action = greedy_random_ties(&values, &mut rng).unwrap();
        for step in 1.. {
            let there = car.step(action);
            coder.active(&[car.x, car.v], &mut next_tiles).unwrap();
            q.values(&Active(&next_tiles), &mut values).unwrap();
            let next_action = greedy_random_ties(&values, &mut rng).unwrap();
            let next = Active(&next_tiles);
            let next = match (there, step == 10_000) {
                (true, _) => Next::Terminated,
                (false, true) => Next::Truncated((&next, next_action)),
                (false, false) => Next::Continues((&next, next_action)),
            };
            if true_online {
                q.true_online_sarsa(&Active(&tiles), action, -1.0, next).unwrap();
            } else {
                q.sarsa(&Active(&tiles), action, -1.0, next).unwrap();
            }
            (tiles, action) = (next_tiles, next_action);
            if next.ends() {
                lengths.push(f64::from(step));
                break;
            }
        }
    }
    (lengths[n_episodes - 50..].iter().sum::<f64>() / 50.0, lengths[0])
}

#[test]
fn sarsa_climbs() {
    let config = ActionValuesConfig { gamma: 1.0, step_size: (0.5 / 8.0).into(), ..Default::default() };
    let runs: Vec<(f64, f64)> = (0..3).map(|run| learn(run, TileIndex::Exact, config, 300, false)).collect();
    let mean = runs.iter().map(|run| run.0).sum::<f64>() / 3.0;
    println!("SARSA: {mean:.1} steps, expected 131.1 +- 6.2");
    assert!(mean < 145.0 && mean > 100.0 && runs.iter().all(|run| run.1 > 400.0), "{runs:?}");
}

/// With traces, fewer episodes do, and with a hash of few features too.
#[test]
fn traces_climb_sooner() {
    let with =
        |lambda, alpha: f64, trace| ActionValuesConfig { gamma: 1.0, lambda, step_size: (alpha / 8.0).into(), trace };
    let replacing = with(0.9, 0.5, TraceKind::Replacing);
    for (name, index, config, true_online) in [
        ("replacing", TileIndex::Exact, replacing, false),
        ("replacing, hashed", TileIndex::Hashed(1024), replacing, false),
        ("true online", TileIndex::Exact, with(0.9, 0.5, TraceKind::Accumulating), true),
    ] {
        let mean = (0..3).map(|run| learn(run, index, config, 100, true_online).0).sum::<f64>() / 3.0;
        println!("{name}: {mean:.1} steps");
        assert!(mean < 165.0, "{name}: {mean}");
    }
}
