//! The phase controller as an agent uses it.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_phase::controller::{EmaConfig, LamConfig, StabilityUse, TargetEntropyConfig, ThermodynamicSpeedConfig};
use krystal_phase::{
    ControllerConfig, Error, Event, MeasuredEntropy, Measurement, Phase, PhaseController, PhaseControllerConfig,
    ReheatConfig,
};

fn controller(config: PhaseControllerConfig) -> PhaseController {
    PhaseController::new(config).unwrap()
}

/// `T <- 0.9 T + 0.1 g` from 0.3, by hand.
#[test]
fn the_documents_dynamics() {
    let mut phase = controller(PhaseControllerConfig::default());
    let mut expected = 0.3;
    for gradient in [1.0, 0.0, 3.0, 0.5, 0.0] {
        expected = 0.9 * expected + 0.1 * gradient;
        assert!((phase.tick(&Measurement::gradient(gradient)).unwrap().temperature - expected).abs() < 1e-15);
    }
    for _ in 0..500 {
        phase.tick(&Measurement::gradient(0.7)).unwrap();
    }
    assert!((phase.temperature() - 0.7).abs() < 1e-12);
    assert_eq!(phase.phase(), Phase::Gas);
}

#[test]
fn instability_slows_cooling_and_not_heating() {
    let tick = |stability, gradient, variance| {
        let config = ControllerConfig::Ema(EmaConfig { stability, ..EmaConfig::default() });
        let mut phase = controller(PhaseControllerConfig { controller: config, ..PhaseControllerConfig::default() });
        phase.tick(&Measurement::gradient(gradient).with_variance(variance)).unwrap().temperature
    };
    assert_eq!(tick(StabilityUse::SlowsCooling, 0.0, 0.0), 0.9 * 0.3);
    assert!((tick(StabilityUse::SlowsCooling, 0.0, 3.0) - 0.975 * 0.3).abs() < 1e-15);
    assert_eq!(tick(StabilityUse::Ignored, 0.0, 3.0), 0.9 * 0.3);
    assert_eq!(tick(StabilityUse::SlowsCooling, 1.0, 3.0), tick(StabilityUse::Ignored, 1.0, 3.0));
}

#[test]
fn what_cannot_be_measured_changes_nothing() {
    let mut phase = controller(PhaseControllerConfig {
        reheat: Some(ReheatConfig { patience: 2, ..ReheatConfig::default() }),
        ..PhaseControllerConfig::default()
    });
    phase.tick(&Measurement { objective: Some(1.0), ..Measurement::gradient(0.4) }).unwrap();
    let before = phase;
    let fine = Measurement::gradient(0.1);
    let entropy = MeasuredEntropy { entropy: f64::NAN, maximum: 1.0, heat_capacity: None };
    for seen in [
        Measurement::gradient(f64::NAN),
        Measurement::gradient(f64::INFINITY),
        Measurement::gradient(-1.0),
        Measurement { stability: Some(f64::NAN), ..fine },
        Measurement { stability: Some(1.1), ..fine },
        Measurement { objective: Some(f64::NEG_INFINITY), ..fine },
        Measurement { acceptance: Some(f64::NAN), ..fine },
        Measurement { temperature: Some(f64::NAN), ..fine },
        Measurement { entropy: Some(entropy), ..fine },
    ] {
        assert!(matches!(phase.tick(&seen), Err(Error::Measured { .. })), "{seen:?}");
    }
    let seen = Measurement { preferences: Some(&[0.0, f64::NAN]), ..fine };
    assert_eq!(phase.tick(&seen), Err(Error::NotANumber { what: "preference", index: 1 }));
    assert!(matches!(phase.tick(&Measurement::default()), Err(Error::Missing { controller: "ema", .. })));
    assert_eq!(phase, before);
}

#[test]
fn entropy_stays_where_it_is_asked_to_be() {
    let config = TargetEntropyConfig { rho: 0.7, ..TargetEntropyConfig::default() };
    let mut phase = controller(PhaseControllerConfig {
        controller: ControllerConfig::TargetEntropy(config),
        ..PhaseControllerConfig::default()
    });
    for scale in [1.0, 1e-3, 40.0] {
        let q = [0.2, 0.9, -0.4, 0.3].map(|q| q * scale);
        let t = phase.tick(&Measurement { preferences: Some(&q), ..Measurement::default() }).unwrap().temperature;
        let p = krystal_phase::boltzmann::softmax(&q, t).unwrap();
        assert!((krystal_phase::boltzmann::entropy(&p) - 0.7 * 4.0_f64.ln()).abs() < 1e-13);
    }
    // Nothing to choose by: the temperature stays.
    let before = phase.temperature();
    phase.tick(&Measurement { preferences: Some(&[1.0; 4]), ..Measurement::default() }).unwrap();
    assert_eq!(phase.temperature(), before);
}

/// Independent noise of standard deviation 1: what falls by 0.05 a tick never stalls, what stands still does.
#[test]
fn a_stall_heats_and_progress_does_not() {
    let config = PhaseControllerConfig { reheat: Some(ReheatConfig::default()), ..PhaseControllerConfig::default() };
    let run = |slope: f64, goal: Option<f64>| {
        let reheat = Some(ReheatConfig { goal, ..ReheatConfig::default() });
        let mut phase = controller(PhaseControllerConfig { reheat, ..config });
        let mut noise = SplitMix64::stream(5, Purpose::SelfCheck, 0, 0);
        let mut events = Vec::new();
        for tick in 0..1000 {
            let objective = Some(noise.normal() - slope * f64::from(tick));
            let seen = Measurement { objective, ..Measurement::gradient(0.01) };
            events.extend(phase.tick(&seen).unwrap().events());
        }
        (phase.n_reheats(), events)
    };
    assert_eq!(run(0.05, None).0, 0);
    assert_eq!(run(0.0, Some(10.0)).0, 0);
    let (n_reheats, events) = run(0.0, None);
    assert!((3..=5).contains(&n_reheats), "{n_reheats}");
    let heats = events.iter().filter(|event| matches!(event, Event::Reheat { to, .. } if *to == 0.625)).count();
    assert_eq!(heats as u64, n_reheats);
    let up = Event::PhaseChange { from: Phase::Solid, to: Phase::Gas, temperature: 0.625 };
    assert!(events.contains(&up), "{events:?}");
    // It cools again, step by step.
    let after = events.iter().skip_while(|event| **event != up).nth(1).unwrap();
    assert!(matches!(after, Event::PhaseChange { from: Phase::Gas, to: Phase::Liquid, .. }), "{after:?}");
}

#[test]
fn saved_and_loaded_it_continues_bit_for_bit() {
    let reheat = Some(ReheatConfig { patience: 7, ..ReheatConfig::default() });
    let controllers = [
        ControllerConfig::default(),
        ControllerConfig::TargetEntropy(TargetEntropyConfig::default()),
        ControllerConfig::Lam(LamConfig { n_ticks: 80, ..LamConfig::default() }),
        ControllerConfig::ThermodynamicSpeed(ThermodynamicSpeedConfig { memory: 8.0, ..Default::default() }),
        ControllerConfig::Given,
    ];
    for config in controllers {
        let fresh =
            controller(PhaseControllerConfig { controller: config, reheat, ..PhaseControllerConfig::default() });
        let step = |phase: &mut PhaseController, tick: u64| {
            let mut draws = SplitMix64::stream(1, Purpose::SelfCheck, 0, tick);
            let q: [f64; 5] = std::array::from_fn(|_| draws.normal());
            let seen = Measurement {
                gradient: Some(draws.uniform()),
                stability: Some(draws.uniform()),
                objective: Some(draws.normal()),
                acceptance: Some(draws.uniform()),
                preferences: Some(&q),
                temperature: Some(draws.uniform()),
                entropy: None,
            };
            phase.tick(&seen).unwrap()
        };
        let mut whole = fresh;
        let expected: Vec<_> = (0..100).map(|tick| step(&mut whole, tick)).collect();
        let mut halves = fresh;
        let mut found: Vec<_> = (0..50).map(|tick| step(&mut halves, tick)).collect();
        let text = serde_json::to_string(&halves).unwrap();
        let mut loaded: PhaseController = serde_json::from_str(&text).unwrap();
        found.extend((50..100).map(|tick| step(&mut loaded, tick)));
        assert_eq!(found, expected);
        assert_eq!(loaded, whole);
        assert!(whole.n_reheats() > 0 || config == ControllerConfig::Given);
    }
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let text = serde_json::to_string(&controller(PhaseControllerConfig::default())).unwrap();
    assert!(serde_json::from_str::<PhaseController>(&text).is_ok());
    for (from, to) in [
        (r#""temperature":0.3,"reheated""#, r#""temperature":-0.3,"reheated""#),
        (r#""decay":0.9"#, r#""decay":1.9"#),
        (r#""config":{"#, r#""config":{"typo":1,"#),
        (r#""controller":{"Ema":{"decay":0.9"#, r#""controller":{"Ema":{"decay":0.8"#),
    ] {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text, "{from}");
        assert!(serde_json::from_str::<PhaseController>(&broken).is_err(), "{broken}");
    }
}

#[test]
fn settings_are_checked_and_files_may_leave_them_out() {
    let base = PhaseControllerConfig::default();
    for config in [
        PhaseControllerConfig { initial_temperature: f64::NAN, ..base },
        PhaseControllerConfig { max_temperature: f64::INFINITY, ..base },
        PhaseControllerConfig { min_temperature: 0.4, ..base },
        PhaseControllerConfig { reheat: Some(ReheatConfig { patience: 1, ..ReheatConfig::default() }), ..base },
        PhaseControllerConfig {
            controller: ControllerConfig::TargetEntropy(TargetEntropyConfig { rho: 2.0, ..Default::default() }),
            ..base
        },
    ] {
        assert!(matches!(PhaseController::new(config), Err(Error::Setting { .. })), "{config:?}");
    }
    let read: PhaseControllerConfig =
        serde_json::from_str(r#"{"controller": {"target_entropy": {"rho": 0.25}}, "phases": {"hysteresis": 0}}"#)
            .unwrap();
    assert_eq!(read.initial_temperature, 0.3);
    assert!(matches!(read.controller, ControllerConfig::TargetEntropy(TargetEntropyConfig { rho: 0.25, .. })));
    assert!(serde_json::from_str::<PhaseControllerConfig>(r#"{"temprature": 1}"#).is_err());
}
