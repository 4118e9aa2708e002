//! An engine restored from a checkpoint is the engine that was saved.

use dynlora_core::{AgentId, Level, Resonance, SavedState};
use dynlora_resonance::{HorizontalConfig, ResonanceConfig, ResonanceEngine, VerticalConfig};

use crate::random_gradients::{batch, by_agent, noise, stream, unit};

/// What a tick gives, bit for bit; `turn` changes the order in which agents come.
fn tick(engine: &mut dyn Resonance, tick: u64, turn: usize) -> Vec<String> {
    let mut rng = stream(5000 + tick);
    let signal = unit(noise(64, &mut stream(4999)));
    let mut results = Vec::new();
    for level in Level::SHARED {
        let gradients: Vec<Vec<f32>> = (0..5)
            .map(|agent| batch(&signal, if agent == 1 && tick < 30 { -0.5 } else { 0.5 }, 1.0, &mut rng))
            .collect();
        let mut voices = by_agent(&gradients);
        voices.rotate_left(turn);
        let mut out = vec![0.0; 64];
        let mut found = engine.horizontal(level, &voices, &mut out);
        found.factors.rotate_right(turn);
        results.push(format!("{:?} {found:?}", out.iter().map(|value| value.to_bits()).collect::<Vec<_>>()));
    }
    let sketches: Vec<(AgentId, Vec<f32>)> = (0..5)
        // Agent 3 comes and goes; agent 4 has an identity beyond 2^53.
        .filter(|agent| *agent != 3 || tick % 50 < 9)
        .map(|agent| (AgentId(if agent == 4 { u64::MAX - 1 } else { agent }), batch(&signal, 0.5, 1.0, &mut rng)))
        .collect();
    let mut judged: Vec<(AgentId, String)> = Vec::new();
    for index in 0..sketches.len() {
        let (agent, sketch) = &sketches[(index + turn) % sketches.len()];
        judged.push((*agent, format!("{:?}", engine.vertical(*agent, sketch))));
    }
    judged.sort();
    results.extend(judged.into_iter().map(|(agent, found)| format!("{agent} {found}")));
    results
}

fn engine(config: &ResonanceConfig) -> ResonanceEngine {
    ResonanceEngine::new(config.clone()).unwrap()
}

fn configs() -> [ResonanceConfig; 3] {
    let mut five = VerticalConfig::default();
    five.levels = Level::ALL.to_vec();
    [
        ResonanceConfig::default(),
        ResonanceConfig::new(HorizontalConfig::seed(), VerticalConfig::seed()),
        ResonanceConfig::new(HorizontalConfig::cosine(), five),
    ]
}

#[test]
fn a_restored_engine_continues_bit_for_bit() {
    for config in configs() {
        // After a tick's end, and in the middle of one.
        for (ticks, whole) in [(1, true), (21, true), (37, false), (150, true)] {
            let mut original = engine(&config);
            for index in 0..ticks {
                tick(&mut original, index, 0);
                if whole || index + 1 < ticks {
                    original.end_tick();
                }
            }
            let text = serde_json::to_string(&original.state()).unwrap();
            let state: SavedState = serde_json::from_str(&text).unwrap();
            let mut restored = engine(&config);
            restored.restore(&state).unwrap();
            assert_eq!(restored.state(), original.state());
            for index in ticks..ticks + 40 {
                assert_eq!(tick(&mut restored, index, 0), tick(&mut original, index, 0), "{ticks} {index}");
                original.end_tick();
                restored.end_tick();
            }
            assert_eq!(restored.state(), original.state());
            assert_eq!(restored.statistics(), original.statistics());
        }
    }
}

#[test]
fn the_order_of_agents_changes_no_bit_of_an_engine() {
    for config in configs() {
        let (mut one, mut two) = (engine(&config), engine(&config));
        for index in 0..80 {
            assert_eq!(tick(&mut one, index, 0), tick(&mut two, index, 1 + index as usize % 4), "{index}");
            one.end_tick();
            two.end_tick();
        }
        assert_eq!(one.state(), two.state());
        assert_eq!(one.statistics(), two.statistics());
        let statistics = one.statistics();
        assert_eq!((statistics.ticks, statistics.aggregations, statistics.gradients), (80, 240, 1200));
        assert_eq!(
            statistics.operations,
            statistics.normal + statistics.fast_track + statistics.conflict + statistics.shift
        );
    }
}

#[test]
fn a_damaged_state_is_refused_by_entry_and_changes_nothing() {
    let config = ResonanceConfig::default();
    let mut original = engine(&config);
    for index in 0..21 {
        tick(&mut original, index, 0);
        original.end_tick();
    }
    let refuse = |damage: &dyn Fn(&mut SavedState), expected: &str| {
        let mut state = original.state();
        damage(&mut state);
        let mut other = engine(&config);
        let before = other.state();
        let error = other.restore(&state).unwrap_err().to_string();
        assert_eq!(error, expected);
        assert_eq!(other.state(), before);
    };
    let entry = |name: &str| format!("entry `{name}` of the saved state: ");
    let set = |name: &'static str, value: f64| {
        move |state: &mut SavedState| {
            state.numbers.iter_mut().filter(|(known, _)| known == name).for_each(|(_, number)| *number = value);
        }
    };
    let cut = |name: &'static str| {
        move |state: &mut SavedState| {
            state.tensors.iter_mut().filter(|(known, _)| known == name).for_each(|(_, values)| {
                values.pop();
            });
        }
    };
    refuse(&set("vertical.k", 1.5), &(entry("vertical.k") + "expected a whole number from 0 to 2^53, found 1.5"));
    refuse(
        &set("horizontal.swarm.null.squares", -1.0),
        &(entry("horizontal.swarm.null.squares") + "expected a number of at least 0, found -1"),
    );
    refuse(
        &set("horizontal.domain.agent.0.seen", 1e6),
        &(entry("horizontal.domain.agent.0.seen") + "expected at most 21, found 1000000"),
    );
    refuse(
        &cut("vertical.history.agent.0.swarm.latest.sum"),
        &(entry("vertical.history.agent.0.swarm.latest.sum") + "expected 64 values, found 63"),
    );
    refuse(
        &|state| state.tensors[0].1[3] = f32::NAN,
        &(entry("horizontal.foundation.direction") + "expected finite values, found NaN"),
    );
    refuse(
        &|state| state.numbers.retain(|(name, _)| name != "vertical.null.count"),
        &(entry("vertical.null.count") + "expected a number, found nothing"),
    );
    refuse(
        &|state| state.set_number("vertical.agent.x.against", 0.0),
        &(entry("vertical.agent.x.against") + "expected the number of an agent, found x"),
    );
}
