//! Baird's counterexample (Sutton and Barto, example 11.1): seven states, eight weights, off-policy. The expected updates are
//! deterministic; numbers of `rl_oracle.py`.

use krystal_rl::{Next, Td, TdConfig, Tdc, TdcConfig};

const START: [f64; 8] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 1.0];

fn features(state: usize) -> [f64; 8] {
    let mut x = [0.0; 8];
    if state < 6 {
        x[state] = 2.0;
        x[7] = 1.0;
    } else {
        x[6] = 1.0;
        x[7] = 2.0;
    }
    x
}

/// `before + mean over states of (after - before)`.
fn expected(before: &[f64], mut after: impl FnMut(usize) -> Vec<f64>) -> Vec<f64> {
    let mut sum = before.to_vec();
    for state in 0..7 {
        let after = after(state);
        sum.iter_mut().zip(after).zip(before).for_each(|((sum, after), before)| *sum += (after - before) / 7.0);
    }
    sum
}

#[test]
fn semi_gradient_diverges_as_it_must() {
    let mut learner = Td::<f64>::new(8, TdConfig { gamma: 0.99, step_size: 0.01.into() }).unwrap();
    learner.set_weights(&START).unwrap();
    let mut sweep = 0;
    for (n, w1, w7, w8) in
        [(1, 1.0254, 9.9998, 1.0758), (100, 3.8949, 9.9712, 9.6271), (1000, 114.4337, 6.85, 335.0012)]
    {
        while sweep < n {
            let w = expected(learner.weights(), |state| {
                let mut one = learner.clone();
                one.update(&features(state), 0.0, Next::Continues(&features(6))).unwrap();
                one.weights().to_vec()
            });
            learner.set_weights(&w).unwrap();
            sweep += 1;
        }
        let w = learner.weights();
        for (found, expected) in w[..6].iter().map(|w| (*w, w1)).chain([(w[6], w7), (w[7], w8)]) {
            assert!((found - expected).abs() < 5.1e-5, "sweep {n}: {found}, expected {expected}");
        }
    }
    let norm = learner.weights().iter().map(|w| w * w).sum::<f64>().sqrt();
    assert!((norm - 436.856).abs() < 5.1e-4, "{norm}");
}

/// The behaviour takes the solid action with 1/7, where the ratio is 7, and otherwise dashed, where it is 0.
#[test]
fn gradient_correction_stays_bounded() {
    let config = TdcConfig { gamma: 0.99, step_size: 0.005.into(), correction_step_size: 0.05 };
    let mut learner = Tdc::<f64>::new(8, config).unwrap();
    learner.set_weights(&START).unwrap();
    for _ in 0..1000 {
        let mut corrections = Vec::new();
        let w = expected(learner.weights(), |state| {
            let mut solid = learner.clone();
            solid.update(&features(state), 0.0, Next::Continues(&features(6)), 7.0).unwrap();
            let mut dashed = learner.clone();
            dashed.update(&features(state), 0.0, Next::Continues(&features(0)), 0.0).unwrap();
            let mix =
                |solid: &[f64], dashed: &[f64]| solid.iter().zip(dashed).map(|(s, d)| (s + 6.0 * d) / 7.0).collect();
            corrections.push(mix(solid.correction(), dashed.correction()));
            mix(solid.weights(), dashed.weights())
        });
        let v = expected(learner.correction(), |state| corrections[state].clone());
        learner.set_weights(&w).unwrap();
        learner.set_correction(&v).unwrap();
    }
    let error = ((0..7).map(|s| learner.value(&features(s)).unwrap().powi(2)).sum::<f64>() / 7.0).sqrt();
    let w = learner.weights();
    for (found, expected, within) in [(error, 1.93546, 5.1e-6), (w[6], 6.6281, 5.1e-5), (w[7], -2.338, 5.1e-5)] {
        assert!((found - expected).abs() < within, "{found}, expected {expected}");
    }
}
