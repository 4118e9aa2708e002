//! Input that is none: an error that names it, and nothing changed.

use krystal_rl::{
    ActionValues, ActionValuesConfig, Active, Error, NStepConfig, NStepTd, Next, Sparse, Td, TdBatch, TdConfig,
    TdLambda, TdLambdaConfig, Tdc, TdcConfig, TrueOnlineTd, TrueOnlineTdConfig,
};

const X: [f64; 2] = [0.5, -1.0];

macro_rules! refuses {
    ($learner:expr, $update:expr) => {{
        let mut learner = $learner.unwrap();
        let update = $update;
        update(&mut learner, &X, 1.0, Next::Continues(&X)).unwrap();
        let before = learner.clone();
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let bad = [1.0, wrong];
            let error = update(&mut learner, &bad, 0.0, Next::Continues(&X)).unwrap_err();
            assert!(matches!(error, Error::NotFinite { index: 1, .. }), "{error}");
            let error = update(&mut learner, &X, wrong, Next::Continues(&X)).unwrap_err();
            assert!(matches!(error, Error::NotFinite { what: "reward", .. }), "{error}");
            let error = update(&mut learner, &X, 0.0, Next::Truncated(&bad)).unwrap_err();
            assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        }
        assert_eq!(learner, before);
        learner
    }};
}

#[test]
fn numbers_that_are_none() {
    refuses!(Td::new(2, TdConfig::default()), |l: &mut Td<f64>, x: &[f64; 2], r, n: Next<&[f64; 2]>| l.update(x, r, n));
    let nag = TdConfig { step_size: krystal_rl::StepSize::Nag { eta: 0.5 }, ..Default::default() };
    refuses!(Td::new(2, nag), |l: &mut Td<f64>, x: &[f64; 2], r, n: Next<&[f64; 2]>| l.update(x, r, n));
    refuses!(
        TdLambda::new(2, TdLambdaConfig::default()),
        |l: &mut TdLambda<f64>, x: &[f64; 2], r, n: Next<&[f64; 2]>| l.update(x, r, n)
    );
    refuses!(
        TrueOnlineTd::new(2, TrueOnlineTdConfig::default()),
        |l: &mut TrueOnlineTd<f64>, x: &[f64; 2], r, n: Next<&[f64; 2]>| l.update(x, r, n)
    );
    refuses!(NStepTd::new(2, NStepConfig::default()), |l: &mut NStepTd<f64>, x: &[f64; 2], r, n: Next<&[f64; 2]>| l
        .update(x, r, n));
    refuses!(Tdc::new(2, TdcConfig::default()), |l: &mut Tdc<f64>, x: &[f64; 2], r, n: Next<&[f64; 2]>| l
        .update(x, r, n, 1.0));
    let config = ActionValuesConfig { lambda: 0.5, ..Default::default() };
    let q =
        refuses!(ActionValues::new(2, 3, config), |l: &mut ActionValues<f64>, x: &[f64; 2], r, n: Next<&[f64; 2]>| l
            .q_learning(x, 1, r, n));
    assert!(matches!(q.value(&X, 3), Err(Error::OutOfRange { index: 3, len: 3, .. })));
    assert!(matches!(q.clone().q_learning(&X, 9, 0.0, Next::Terminated), Err(Error::OutOfRange { .. })));
    let wrong = Next::Continues((&X, &[0.5; 2][..]));
    assert!(matches!(q.clone().expected_sarsa(&X, 0, 0.0, wrong), Err(Error::Length { expected: 3, found: 2, .. })));
}

#[test]
fn lengths_that_disagree() {
    let mut td = Td::<f64>::new(2, TdConfig::default()).unwrap();
    let error = td.update(&[1.0; 3], 0.0, Next::Terminated).unwrap_err();
    assert_eq!(error.to_string(), "expected 2 features, got 3");
    let error = td.update(&X[..], 0.0, Next::Continues(&X[..1])).unwrap_err();
    assert!(matches!(error, Error::Length { .. }));
    let error = td.update(&Active(&[0, 2]), 0.0, Next::Terminated).unwrap_err();
    assert_eq!(error.to_string(), "feature 2 does not exist: there are 2");
    assert!(matches!(Sparse::new(&[0, 1], &[1.0_f32]), Err(Error::Length { .. })));
    let mut batch = TdBatch::<f32>::new(20, 2, TdConfig::default()).unwrap();
    assert!(matches!(batch.update(&[0.0; 40], &[0.0; 32], &[0.0; 64], &[0.0; 32]), Err(Error::Length { .. })));
    let mut x = [1.0; 64];
    x[batch.place(17, 1)] = f32::NAN;
    let before = batch.weights().to_vec();
    let error = batch.update(&x, &[1.0; 32], &[0.0; 64], &[0.9; 32]).unwrap_err();
    assert!(matches!(error, Error::NotFinite { index: 17, .. }), "{error}");
    assert_eq!(batch.weights(), before);
}

#[test]
fn settings_that_mean_nothing() {
    assert!(matches!(Td::<f32>::new(0, TdConfig::default()), Err(Error::Setting { name: "dim", .. })));
    let gamma = TdConfig { gamma: 1.5, ..Default::default() };
    assert!(matches!(Td::<f32>::new(1, gamma), Err(Error::Setting { name: "gamma", .. })));
    assert!(matches!(ActionValues::<f32>::new(2, 0, Default::default()), Err(Error::NoActions)));
    assert!(matches!(
        NStepTd::<f32>::new(2, NStepConfig { n: 0, ..Default::default() }),
        Err(Error::Setting { name: "n", .. })
    ));
    let lambda = TdLambdaConfig { lambda: f64::NAN, ..Default::default() };
    assert!(matches!(TdLambda::<f32>::new(2, lambda), Err(Error::Setting { name: "lambda", .. })));
}

/// Overflow is no input's fault and is said to be none.
#[test]
fn divergence_is_called_so() {
    let mut td = Td::<f32>::new(1, TdConfig { gamma: 1.0, step_size: 3.0.into() }).unwrap();
    let error = loop {
        if let Err(error) = td.update(&[1.0], 1.0, Next::Terminated) {
            break error;
        }
    };
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
}
