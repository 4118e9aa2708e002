//! Zeros, NaN, infinities and numbers at the ends of f32.

use dynlora_core::{AgentId, Level, Resonance, Signal, Vertical};
use dynlora_resonance::{HorizontalConfig, HorizontalMode, ResonanceConfig, ResonanceEngine, VerticalConfig};
use rand::Rng;

use crate::random_gradients::{noise, stream};

#[test]
fn nothing_diverges_in_a_hundred_thousand_ticks() {
    let seeds = ResonanceConfig::new(HorizontalConfig::seed(), VerticalConfig::seed());
    let cosines = ResonanceConfig::new(HorizontalConfig::cosine(), VerticalConfig::default());
    for (config, ticks) in [(ResonanceConfig::default(), 100_000), (seeds, 20_000), (cosines, 20_000)] {
        let literal = config.horizontal.mode == HorizontalMode::Seed;
        let mut engine = ResonanceEngine::new(config).unwrap();
        let mut rng = stream(1);
        let mut out = [0.0; 12];
        for tick in 0..ticks {
            let gradients: Vec<(AgentId, Vec<f32>)> = (0..rng.next_u32() % 5)
                .map(|_| {
                    let mut gradient = noise(12, &mut rng);
                    let scale = [1.0, 1e-3, 0.0, 1e38, 1e-38, 1e-45][rng.next_u32() as usize % 6];
                    gradient.iter_mut().for_each(|value| *value *= scale);
                    let place = rng.next_u32() as usize % 12;
                    match rng.next_u32() % 12 {
                        0 => gradient[place] = f32::NAN,
                        1 => gradient[place] = f32::INFINITY,
                        2 => gradient[place] = f32::MIN,
                        _ => {}
                    }
                    (AgentId(u64::from(rng.next_u32() % 6)), gradient)
                })
                .collect();
            let voices: Vec<(AgentId, &[f32])> = gradients.iter().map(|(agent, g)| (*agent, g.as_slice())).collect();
            let level = Level::SHARED[rng.next_u32() as usize % 3];
            let found = engine.horizontal(level, &voices, &mut out);
            assert!(out.iter().all(|value| value.is_finite()), "tick {tick}: {out:?}");
            assert!(found.norm.is_finite() && found.factors.iter().all(|factor| factor.is_finite()));
            if !literal {
                let bounds = |factor: &f64| *factor == 0.0 || (0.1..=2.0).contains(factor);
                assert!(found.factors.iter().all(bounds), "tick {tick}: {:?}", found.factors);
                assert!(found.consensus.is_none_or(|kappa| (0.0..=1.0).contains(&kappa)));
            }
            for (agent, sketch) in &gradients {
                let found = engine.vertical(*agent, sketch);
                assert!(found.factors.iter().all(|factor| factor.is_finite()), "tick {tick}: {found:?}");
                if !literal {
                    assert!(found.factors.iter().all(|factor| (0.8..=1.3).contains(factor)), "tick {tick}: {found:?}");
                    let within = |value: Option<f64>| value.is_none_or(|value| (-1.0..=1.0).contains(&value));
                    assert!(within(found.alignment) && within(found.conflict), "tick {tick}: {found:?}");
                }
            }
            engine.end_tick();
        }
        let statistics = engine.statistics();
        assert!(statistics.gradients > 1000 && statistics.gradients_skipped > 1000, "{statistics:?}");
        assert_eq!(statistics.gradients_skipped, statistics.sketches_skipped);
        assert!(statistics.sum_z.is_finite());
        // All of it can be saved: there is no number in it that is not one.
        ResonanceEngine::new(engine.config().clone()).unwrap().restore(&engine.state()).unwrap();
    }
}

#[test]
fn what_is_no_gradient_leaves_no_trace() {
    let mut engine = ResonanceEngine::new(ResonanceConfig::default()).unwrap();
    let mut clean = engine.clone();
    let (good, also) = ([1.0, 2.0, -1.0, 0.5], [0.5, 2.0, -1.0, 1.0]);
    let mut out = [0.0; 4];
    let mut expected = [0.0; 4];
    for _ in 0..20 {
        let voices: [(AgentId, &[f32]); 5] = [
            (AgentId(0), &[f32::NAN; 4]),
            (AgentId(1), &good),
            (AgentId(2), &[0.0; 4]),
            (AgentId(3), &also),
            (AgentId(4), &[1.0, f32::NEG_INFINITY, 0.0, 0.0]),
        ];
        let found = engine.horizontal(Level::Swarm, &voices, &mut out);
        let without = clean.horizontal(Level::Swarm, &[voices[1], voices[3]], &mut expected);
        assert_eq!(out, expected);
        assert_eq!(found.factors, [0.0, without.factors[0], 0.0, without.factors[1], 0.0]);
        assert_eq!(engine.vertical(AgentId(0), &[f32::NAN; 4]), Vertical::unknown());
        assert_eq!(engine.vertical(AgentId(2), &[0.0; 4]).signal, Signal::Normal);
        assert_eq!(engine.vertical(AgentId(1), &good), clean.vertical(AgentId(1), &good));
        engine.end_tick();
        clean.end_tick();
    }
    let statistics = engine.statistics();
    assert_eq!((statistics.gradients, statistics.gradients_skipped, statistics.sketches_skipped), (40, 60, 40));
    let memory = |engine: &ResonanceEngine| {
        let mut state = engine.state();
        state.numbers.retain(|(name, _)| !name.starts_with("statistics."));
        state
    };
    assert_eq!(memory(&engine), memory(&clean));

    assert_eq!(engine.horizontal(Level::Swarm, &[(AgentId(0), &[f32::NAN; 4])], &mut out).norm, 0.0);
    assert_eq!(out, [0.0; 4]);
}

#[test]
fn a_layer_of_another_size_starts_anew() {
    let mut engine = ResonanceEngine::new(ResonanceConfig::default()).unwrap();
    for length in [4, 9, 4] {
        for _ in 0..3 {
            let gradients = [vec![1.0; length], vec![2.0; length]];
            let mut out = vec![0.0; length];
            let voices = [(AgentId(0), gradients[0].as_slice()), (AgentId(1), gradients[1].as_slice())];
            let found = engine.horizontal(Level::Domain, &voices, &mut out);
            assert!((found.consensus.unwrap() - 1.0).abs() < 1e-6);
            assert!(out.iter().all(|value| (*value - out[0]).abs() < 1e-6 && *value > 0.0));
            engine.end_tick();
        }
    }
}

#[test]
#[should_panic(expected = "agent 7: length of the gradient and of the aggregate")]
fn a_gradient_of_another_length_is_the_callers_bug() {
    let mut engine = ResonanceEngine::new(ResonanceConfig::default()).unwrap();
    engine.horizontal(Level::Swarm, &[(AgentId(7), &[1.0, 2.0])], &mut [0.0; 3]);
}
