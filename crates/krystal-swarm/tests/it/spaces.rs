//! Integers, names, suggestions.

use krystal_swarm::{Dimension, Method, SearchSpace, StopRules, Swarm, SwarmConfig, Value};

use crate::METHODS;

fn space() -> SearchSpace {
    SearchSpace::new(vec![
        Dimension::float("rate", 1e-6, 1.0).log(),
        Dimension::integer("layers", 1, 24),
        Dimension::integer("width", 1, 4096).log(),
        Dimension::categorical("optimizer", ["adamw", "lion", "sgd", "shampoo", "muon"]),
        Dimension::categorical("tied", ["no", "yes"]),
    ])
    .unwrap()
}

fn loss(x: &[f64]) -> f64 {
    let ratio = |x: f64, best: f64| (x / best).ln().powi(2);
    let optimizer = [2.0, 0.7, 1.0, 0.0, 0.4][x[3] as usize];
    ratio(x[0], 3e-4) + (x[1] - 7.0).abs() + ratio(x[2], 96.0) + optimizer + x[4]
}

#[test]
fn the_best_integers_and_names_are_found() {
    for method in METHODS {
        let mut hits = 0;
        for seed in 0..10 {
            let config = SwarmConfig { seed, stop: StopRules::after(6_000), ..SwarmConfig::of(method) };
            let mut swarm = Swarm::new(space(), config).unwrap();
            let best = swarm.minimize(loss).unwrap().best;
            assert!(best.x[1..].iter().all(|x| x.fract() == 0.0));
            hits += usize::from(best.x[1..] == [7.0, 96.0, 3.0, 0.0] && best.fitness.value < 1e-3);
            let values = swarm.space().values(&best.x).unwrap();
            assert!(
                matches!(values[3], ("optimizer", Value::Category(_)))
                    && values[1].1 == Value::Integer(best.x[1] as i64)
            );
        }
        // A swarm of five is not meant for this.
        assert!(hits >= if method == Method::Classic { 2 } else { 8 }, "{method:?}: {hits} of 10");
    }
}

/// Each value of an integer has the same share of uniform points, each name too, and each decade of a logarithmic scale. Chi-square at
/// the 1 - 10^-6 quantile, five times: a false alarm in 2 * 10^5.
#[test]
fn first_generations_are_uniform() {
    let space = SearchSpace::new(vec![
        Dimension::integer("n", -2, 3),
        Dimension::categorical("two", ["a", "b"]),
        Dimension::categorical("three", ["a", "b", "c"]),
        Dimension::float("decades", 1e-3, 1e3).log(),
        Dimension::float("x", -4.0, 2.0),
    ])
    .unwrap();
    let mut counts = [[0_u32; 6]; 5];
    for seed in 0..500 {
        let mut swarm = Swarm::pso(space.clone(), seed).unwrap();
        for trial in swarm.ask_batch(10) {
            let x = &trial.x;
            let bins = [x[0] + 2.0, x[1], x[2], x[3].log10() + 3.0, x[4] + 4.0];
            for (counts, bin) in counts.iter_mut().zip(bins) {
                counts[(bin as usize).min(5)] += 1;
            }
        }
    }
    for (counts, (n, quantile)) in counts.iter().zip([(6, 35.9), (2, 24.0), (3, 27.7), (6, 35.9), (6, 35.9)]) {
        let expected = 5_000.0 / n as f64;
        let chi2: f64 = counts[..n].iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        assert!(chi2 < quantile, "{counts:?}");
    }
}

#[test]
fn suggestions_are_tried_first_and_used() {
    let suggestions = [[1e-2, 3.0, 8.0, 1.0, 1.0], [3e-4, 7.0, 90.0, 3.0, 0.0]];
    for method in METHODS {
        let config = SwarmConfig { stop: StopRules::after(300), ..SwarmConfig::of(method) };
        let mut cold = Swarm::new(space(), config.clone()).unwrap();
        let mut warm = Swarm::new(space(), config).unwrap();
        for suggestion in &suggestions {
            warm.suggest(suggestion).unwrap();
        }
        for suggestion in &suggestions {
            let trial = warm.ask().unwrap();
            for (ours, suggested) in trial.x.iter().zip(suggestion) {
                assert!((ours / suggested - 1.0).abs() < 1e-12 || ours == suggested, "{trial:?}");
            }
            warm.tell(trial.id, loss(&trial.x)).unwrap();
        }
        assert!(warm.best().unwrap().fitness.value < 0.01);
        let first = warm.best().unwrap().fitness;
        let (cold, best) = (cold.minimize(loss).unwrap().best, warm.minimize(loss).unwrap().best);
        // Swarms that try axis after axis solve this sum sooner than a suggestion can help.
        if matches!(method, Method::Classic | Method::Pso) {
            assert!(best.fitness.beats(&cold.fitness), "{method:?}: {best:?} {cold:?}");
        }
        warm.set_stop(StopRules::after(3_000)).unwrap();
        let last = warm.minimize(loss).unwrap().best.fitness;
        assert!(last.beats(&first), "{method:?} did not go on from the suggestion");
    }
}

#[test]
fn spaces_come_from_configuration() {
    let json = r#"[
        {"name": "rate", "domain": {"float": {"low": 1e-6, "high": 1.0, "scale": "log"}}},
        {"name": "layers", "domain": {"integer": {"low": 1, "high": 24}}},
        {"name": "width", "domain": {"integer": {"low": 1, "high": 4096, "scale": "log"}}},
        {"name": "optimizer", "domain": {"categorical": {"choices": ["adamw", "lion", "sgd", "shampoo", "muon"]}}},
        {"name": "tied", "domain": {"categorical": {"choices": ["no", "yes"]}}}]"#;
    assert_eq!(serde_json::from_str::<SearchSpace>(json).unwrap(), space());
    let typo = r#"[{"name": "x", "domain": {"float": {"low": 0, "high": 1, "scal": "log"}}}]"#;
    assert!(serde_json::from_str::<SearchSpace>(typo).unwrap_err().to_string().contains("scal"));
    let empty = r#"[{"name": "x", "domain": {"float": {"low": 1, "high": 1}}}]"#;
    assert!(serde_json::from_str::<SearchSpace>(empty).unwrap_err().to_string().contains("low < high, got 1 and 1"));
    let config: SwarmConfig = serde_json::from_str(
        r#"{"method": "pso", "pso": {"topology": {"random": {"informed": 3}}, "bounds": "periodic"}, "stop": {"evaluations": 7}}"#,
    )
    .unwrap();
    assert_eq!(config.stop, StopRules::after(7));
    assert!(serde_json::from_str::<SwarmConfig>(r#"{"particles": 3}"#).is_err());
}
