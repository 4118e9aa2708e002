//! What the rules for step sizes promise.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{ActionValues, ActionValuesConfig, Error, Next, StepSize, Td, TdConfig, TdLambda, TdLambdaConfig};

const DIM: usize = 6;

/// Predictions of a learner whose features are `x_i units_i`.
fn predictions(units: [f64; DIM], lambda: f64) -> Vec<f64> {
    let config = TdLambdaConfig { gamma: 0.9, lambda, step_size: StepSize::Nag { eta: 0.5 }, ..Default::default() };
    let mut td = TdLambda::<f64>::new(DIM, config).unwrap();
    let mut rng = SplitMix64::stream(10, Purpose::Simulation, 0, 0);
    let mut state = || std::array::from_fn::<f64, DIM, _>(|i| rng.normal() * units[i]);
    let mut x = state();
    let mut found = Vec::new();
    for step in 0..400 {
        let next = state();
        found.push(td.value(&x).unwrap());
        td.update(&x, f64::from(step % 5) - 2.0, Next::Continues(&next)).unwrap();
        x = next;
    }
    found
}

/// Units are powers of two, so that nothing is rounded and every bit must be the same.
#[test]
fn nag_is_free_of_units() {
    for lambda in [0.0, 0.7] {
        let plain = predictions([1.0; DIM], lambda);
        let scaled = predictions([1024.0, 1.0 / 4096.0, 2.0, 1.0, 0.5, 1048576.0], lambda);
        assert_eq!(plain, scaled);
        assert!(plain.iter().any(|v| v.abs() > 0.1));
    }
    // The same holds of action values.
    let learn = |unit: f64| {
        let config = ActionValuesConfig { step_size: StepSize::Nag { eta: 0.5 }, ..Default::default() };
        let mut q = ActionValues::<f64>::new(1, 2, config).unwrap();
        for step in 1..50 {
            let x = [unit * f64::from(step)];
            q.q_learning(&x, step as usize % 2, f64::from(step), Next::Continues(&x)).unwrap();
        }
        q.value(&[unit * 50.0], 1).unwrap()
    };
    assert_eq!(learn(1.0), learn(256.0));
}

/// Root mean square error over the last tenth of a regression on features of very unlike scale, or of unlike worth.
fn regression_error(step_size: StepSize, scales: [f64; DIM], worth: [f64; DIM]) -> f64 {
    let mut td = Td::<f64>::new(DIM, TdConfig { gamma: 0.0, step_size }).unwrap();
    let mut rng = SplitMix64::stream(11, Purpose::Simulation, 0, 0);
    let n = 20_000;
    let mut squares = 0.0;
    for step in 0..n {
        let x: [f64; DIM] = std::array::from_fn(|i| scales[i] * rng.normal());
        let target: f64 = (0..DIM).map(|i| worth[i] * x[i] / scales[i]).sum::<f64>() + rng.normal();
        let error = match td.update(&x, target, Next::Terminated) {
            Ok(error) => error,
            Err(Error::Diverged { .. }) => return f64::INFINITY,
            Err(other) => panic!("{other}"),
        };
        if step >= n - n / 10 {
            squares += error * error;
        }
    }
    (squares / f64::from(n / 10)).sqrt()
}

#[test]
fn rules_for_each_feature_learn_where_one_for_all_cannot() {
    // Noise alone leaves an error of 1, ignorance of everything 2.6.
    let scales = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0];
    let nag = regression_error(StepSize::Nag { eta: 0.5 }, scales, [1.0; DIM]);
    let fixed = [1e-6, 1e-5, 5e-5, 1e-4, 1e-3, 1e-2, 0.1]
        .map(|alpha| regression_error(alpha.into(), scales, [1.0; DIM]))
        .into_iter()
        .fold(f64::INFINITY, f64::min);
    assert!(nag < 1.05 && fixed > 1.5, "nag {nag}, best fixed {fixed}");
    // Autostep finds which features are worth a step: one of six is.
    let worth = [3.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for alpha in [1e-4, 1e-2, 0.3] {
        let autostep = regression_error(StepSize::autostep(alpha), [1.0; DIM], worth);
        assert!(autostep < 1.05, "from {alpha}: {autostep}");
    }
    assert!(regression_error(0.3.into(), [1.0; DIM], worth) > 1.5);
    // Normalised steps do not diverge, however long the features.
    let long = [1000.0; DIM];
    assert!(regression_error(StepSize::Normalised { alpha: 0.1, epsilon: 1e-8 }, long, [1.0; DIM]) < 1.2);
    assert_eq!(regression_error(0.1.into(), long, [1.0; DIM]), f64::INFINITY);
}

#[test]
fn rules_outside_their_range_are_refused() {
    let robbins_monro = |power| StepSize::RobbinsMonro { alpha: 0.1, half_life: 10.0, power };
    for wrong in [
        StepSize::Fixed(0.0),
        StepSize::Fixed(f64::NAN),
        robbins_monro(0.5),
        robbins_monro(1.1),
        StepSize::Normalised { alpha: 2.0, epsilon: 1.0 },
        StepSize::Nag { eta: -1.0 },
        StepSize::Autostep { alpha: 0.1, meta: 0.01, tau: 0.0 },
    ] {
        let made = Td::<f32>::new(3, TdConfig { step_size: wrong, ..Default::default() });
        assert!(matches!(made, Err(Error::Setting { .. })), "{wrong:?}");
    }
    let traced = TdLambdaConfig { step_size: StepSize::autostep(0.1), ..Default::default() };
    assert!(matches!(TdLambda::<f32>::new(3, traced), Err(Error::StepSize { .. })));
}
