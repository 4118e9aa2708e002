//! The cart with a pole.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{ActionValues, ActionValuesConfig, FourierBasis, FourierConfig, Next, Ties, epsilon_greedy};

use crate::problems::cart_pole::CartPole;

/// Gymnasium 1.4, ten steps in f64 (`cartpole_golden.py`).
#[test]
fn dynamics_are_gymnasiums() {
    let mut pole = CartPole { state: [0.01, -0.02, 0.03, 0.04] };
    for action in [1, 0, 1, 1, 0, 0, 1, 0, 1, 1] {
        assert!(!pole.step(action));
    }
    let expected =
        [0.033_008_390_428_920_745, 0.367_650_986_019_187_44, 0.003_821_465_246_233_754_3, -0.488_203_772_462_579_4];
    assert!(pole.state.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{:?}", pole.state);
}

/// Steps until it falls, at most 500, of one episode after another.
fn episodes(seed: u64, n: usize, epsilon: f64, learns: bool) -> Vec<f64> {
    let ranges = vec![(-2.4, 2.4), (-3.0, 3.0), (-0.21, 0.21), (-3.0, 3.0)];
    let basis = FourierBasis::new(FourierConfig { ranges, order: 2, scaled: true }).unwrap();
    let config = ActionValuesConfig { gamma: 0.99, lambda: 0.9, step_size: 0.003.into(), ..Default::default() };
    let mut q = ActionValues::<f64>::new(basis.n_features(), 2, config).unwrap();
    let mut rng = SplitMix64::stream(seed, Purpose::Simulation, 0, 0);
    let (mut x, mut next_x, mut values) = (vec![0.0; basis.n_features()], vec![0.0; basis.n_features()], [0.0; 2]);
    let mut lengths = Vec::new();
    for _ in 0..n {
        let mut pole = CartPole { state: std::array::from_fn(|_| 0.1 * rng.uniform() - 0.05) };
        basis.features(&pole.state, &mut x).unwrap();
        q.values(&x, &mut values).unwrap();
        let mut action = epsilon_greedy(&values, epsilon, Ties::Random, &mut rng).unwrap();
        for step in 1.. {
            let fallen = pole.step(action);
            basis.features(&pole.state, &mut next_x).unwrap();
            q.values(&next_x, &mut values).unwrap();
            let next_action = epsilon_greedy(&values, epsilon, Ties::Random, &mut rng).unwrap();
            let next = match (fallen, step == 500) {
                (true, _) => Next::Terminated,
                (false, true) => Next::Truncated((&next_x, next_action)),
                (false, false) => Next::Continues((&next_x, next_action)),
            };
            if learns {
                q.true_online_sarsa(&x, action, 1.0, next).unwrap();
            }
            if next.ends() {
                lengths.push(f64::from(step));
                break;
            }
            std::mem::swap(&mut x, &mut next_x);
            action = next_action;
        }
    }
    lengths
}

#[test]
fn sarsa_on_the_fourier_basis_balances() {
    let mean = |lengths: &[f64]| lengths.iter().sum::<f64>() / lengths.len() as f64;
    let random = mean(&episodes(0, 200, 1.0, false));
    assert!(random < 30.0, "{random}");
    for seed in 0..3 {
        let lengths = episodes(seed, 250, 0.05, true);
        let learned = mean(&lengths[200..]);
        println!("seed {seed}: {learned:.0} steps, at random {random:.0}");
        assert!(learned > 400.0, "seed {seed}: {learned}");
    }
}
