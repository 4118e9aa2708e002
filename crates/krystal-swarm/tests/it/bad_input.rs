//! What is refused, and what is survived.

use krystal_swarm::{Dimension, Error, Fitness, Method, PsoConfig, SearchSpace, StopRules, Swarm, SwarmConfig, Value};

use crate::METHODS;

fn config(method: Method, evaluations: u64) -> SwarmConfig {
    SwarmConfig { seed: 5, stop: StopRules::after(evaluations), ..SwarmConfig::of(method) }
}

#[test]
fn spaces_that_hold_nothing_are_refused() {
    let refused = |dimensions: Vec<Dimension>| SearchSpace::new(dimensions).unwrap_err().to_string();
    assert_eq!(refused(vec![]), "a search space needs at least one dimension, got none");
    let x = || Dimension::float("x", 0.0, 1.0);
    assert_eq!(refused(vec![x(), x()]), "dimension names must differ, got `x` twice");
    for (low, high) in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (-1e308, 1e308)] {
        assert!(refused(vec![Dimension::float("x", low, high)]).starts_with("dimension `x` needs finite bounds"));
    }
    let log = refused(vec![Dimension::float("x", 0.0, 1.0).log()]);
    assert_eq!(log, "dimension `x` has a logarithmic scale and needs low > 0, got 0");
    assert!(refused(vec![Dimension::integer("n", 3, 2)]).contains("low < high, got 3 and 2"));
    assert!(refused(vec![Dimension::integer("n", 0, i64::MAX)]).contains("at most 2^53"));
    assert!(refused(vec![Dimension::categorical("c", ["a", "a"])]).contains("choices that differ"));
    assert!(refused(vec![Dimension::categorical::<&str>("c", [])]).contains("choices that differ"));
}

#[test]
fn points_that_are_not_of_the_space_are_refused() {
    let space = SearchSpace::new(vec![
        Dimension::float("x", 0.0, 1.0),
        Dimension::integer("n", 1, 8),
        Dimension::categorical("c", ["a", "b", "c"]),
    ])
    .unwrap();
    let mut swarm = Swarm::new(space.clone(), config(Method::Pso, 100)).unwrap();
    let mut refused = |x: &[f64]| swarm.suggest(x).unwrap_err().to_string();
    assert_eq!(refused(&[0.0]), "a point of this space has 3 values, got 1");
    assert_eq!(refused(&[1.5, 1.0, 0.0]), "dimension `x` takes a number in [0, 1], got 1.5");
    assert_eq!(refused(&[f64::NAN, 1.0, 0.0]), "dimension `x` takes a number in [0, 1], got NaN");
    assert_eq!(refused(&[0.5, 1.5, 0.0]), "dimension `n` takes an integer in 1..=8, got 1.5");
    assert_eq!(refused(&[0.5, 1.0, 3.0]), "dimension `c` takes the index of one of 3 choices, got 3");

    let point = |values: Vec<(&'static str, Value)>| space.point(values).map_err(|error| error.to_string());
    let category = |name: &str| Value::Category(name.to_owned());
    let good = vec![("c", category("b")), ("n", Value::Integer(2)), ("x", Value::Float(0.5))];
    assert_eq!(point(good.clone()).unwrap(), [0.5, 2.0, 1.0]);
    assert_eq!(space.values(&[0.5, 2.0, 1.0]).unwrap()[2], ("c", category("b")));
    assert!(point(good[..2].to_vec()).unwrap_err().contains("3 values, got 2"));
    assert!(point(vec![("y", Value::Integer(1))]).unwrap_err().contains("no dimension is called `y`"));
    assert!(point(vec![("c", category("z"))]).unwrap_err().contains(r#"one of ["a", "b", "c"], got z"#));
    assert!(point(vec![("n", Value::Float(1.0))]).unwrap_err().contains("`n` takes an integer, got 1"));
}

#[test]
fn settings_out_of_range_are_refused() {
    let check = |pso: PsoConfig, field: &str| {
        let config = SwarmConfig { pso, ..SwarmConfig::of(Method::Pso) };
        let error = Swarm::new(SearchSpace::cube(2, 0.0, 1.0).unwrap(), config).unwrap_err();
        assert!(error.to_string().starts_with(&format!("`{field}` must be")), "{error}");
    };
    check(PsoConfig { n_particles: 0, ..PsoConfig::default() }, "n_particles");
    check(PsoConfig { inertia: f64::NAN, ..PsoConfig::default() }, "inertia");
    check(PsoConfig { inertia: 1.0, ..PsoConfig::default() }, "inertia");
    check(PsoConfig { social: -0.1, ..PsoConfig::default() }, "social");
    check(PsoConfig { velocity_limit: Some(0.0), ..PsoConfig::default() }, "velocity_limit");
    check(PsoConfig { stagnation: Some(0), ..PsoConfig::default() }, "stagnation");
    let stop = StopRules { target: Some(f64::NAN), ..StopRules::default() };
    let error = Swarm::new(SearchSpace::cube(2, 0.0, 1.0).unwrap(), SwarmConfig { stop, ..SwarmConfig::default() });
    assert_eq!(error.unwrap_err().to_string(), "`stop.target` must be a number, got NaN");
}

/// Half of the box has no value, in each of four ways; the optimum lies in the other half, a tenth of the box from the border.
#[test]
fn half_of_the_space_without_a_value() {
    for method in METHODS {
        for hole in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -f64::NAN] {
            let mut swarm = Swarm::new(SearchSpace::cube(2, -5.0, 5.0).unwrap(), config(method, 5_000)).unwrap();
            let f = |x: &[f64]| if x[0] < 0.0 { hole } else { (x[0] - 1.0).powi(2) + (x[1] + 2.0).powi(2) };
            let best = swarm.minimize(f).unwrap().best;
            assert!(best.fitness.value < 1e-6, "{method:?} {hole}: {best:?}");
            assert!(swarm.failures() > 0 && swarm.failures() < 2_500);
            assert!(swarm.particles().flatten().all(|x| (-5.0..=5.0).contains(&x)));
        }
    }
}

#[test]
fn nothing_finite_is_said() {
    for method in METHODS {
        let mut swarm = Swarm::new(SearchSpace::cube(2, -5.0, 5.0).unwrap(), config(method, 500)).unwrap();
        let error = swarm.minimize(|_| f64::NAN).unwrap_err();
        assert!(matches!(error, Error::NothingFinite { evaluations: 500 }), "{error}");
        assert!(swarm.best().is_none());
        assert!(swarm.particles().flatten().all(f64::is_finite));
    }
}

#[test]
fn a_panic_is_an_error_and_the_best_is_kept() {
    for method in METHODS {
        let mut swarm = Swarm::new(SearchSpace::cube(2, -5.0, 5.0).unwrap(), config(method, 500)).unwrap();
        let mut n = 0;
        let mut calls = Vec::new();
        let error = swarm
            .minimize(|x| {
                n += 1;
                assert!(n != 100, "no licence for {n}");
                calls.push(x[0] * x[0]);
                x[0] * x[0]
            })
            .unwrap_err();
        assert_eq!(error.to_string(), "the objective panicked at evaluation 100: no licence for 100");
        let best = calls.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!(swarm.best().unwrap().fitness, Fitness::of(best));
        assert_eq!((swarm.evaluations(), swarm.failures()), (100, 1));
        // And it can go on.
        assert_eq!(swarm.minimize(|x| x[0] * x[0]).unwrap().evaluations, 500);
    }
}

#[cfg(feature = "rayon")]
#[test]
fn a_panic_among_threads_is_the_same_error() {
    let f = |x: &[f64]| {
        assert!(x[0] < 4.0, "too far");
        x[0] * x[0]
    };
    for method in METHODS {
        let new = || Swarm::new(SearchSpace::cube(1, -5.0, 5.0).unwrap(), config(method, 500)).unwrap();
        let (mut one, mut many) = (new(), new());
        for _ in 0..3 {
            let errors = [one.minimize(f), many.minimize_parallel(f)].map(|result| result.map_err(|e| e.to_string()));
            assert_eq!(errors[0], errors[1]);
        }
        assert_eq!(one.to_bytes().unwrap(), many.to_bytes().unwrap());
    }
}

#[test]
fn damaged_checkpoints_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("swarm.ckpt");
    let mut swarm = Swarm::new(SearchSpace::cube(2, -5.0, 5.0).unwrap(), config(Method::Pso, 500)).unwrap();
    swarm.minimize(|x| x[0]).unwrap();
    swarm.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(Swarm::load(&path).unwrap().best(), swarm.best());
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(Swarm::load(&path), Err(Error::Checkpoint { .. })), "byte {at}");
        std::fs::write(&path, &whole[..at]).unwrap();
        assert!(matches!(Swarm::load(&path), Err(Error::Checkpoint { .. })), "cut at {at}");
    }
    assert!(matches!(Swarm::load(&directory.path().join("none")), Err(Error::Checkpoint { .. })));
}
