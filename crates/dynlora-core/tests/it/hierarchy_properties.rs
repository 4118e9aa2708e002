//! A hierarchy under whatever it may be fed, and agents that rest.

use std::sync::Arc;

use dynlora_core::{AgentId, HierarchyConfig, Level, LoraHierarchy};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use crate::life::{born, gradient, lively, modules, step, with_rank};
use crate::shape;

const AGENTS: u64 = 3;

/// Gradients of seven decades with jumps by ten, zeros, agents that come and go, passes that measured nothing or came late,
/// ticks without any gradient.
fn storm(hierarchy: &mut LoraHierarchy, ticks: u64) -> f32 {
    let mut largest = 0.0_f32;
    let mut scale = 1.0_f32;
    for tick in 1..=ticks {
        let mut rng = stream_rng(9, Purpose::Task, 0, tick);
        if rng.random_range(0..500) == 0 {
            let agent = AgentId(rng.random_range(0..AGENTS));
            let is_known = hierarchy.agents().any(|known| known == agent);
            match is_known {
                true => hierarchy.remove_agent(agent).unwrap(),
                false => hierarchy.add_agent(agent).unwrap(),
            }
        }
        if rng.random_range(0..200) == 0 {
            scale = if rng.random::<bool>() { scale * 10.0 } else { scale / 10.0 }.clamp(1e-4, 1e3);
        }
        let snapshot = hierarchy.snapshot();
        let known: Vec<AgentId> = hierarchy.agents().collect();
        for agent in snapshot.agents().filter(|agent| known.contains(agent)) {
            if rng.random::<bool>() {
                continue;
            }
            let mut gradient = gradient(&snapshot, agent.0, tick, scale);
            match rng.random_range(0..20) {
                0 => gradient.levels.iter_mut().for_each(|level| level.fill(0.0)),
                1..4 => gradient.activity = None,
                4 => gradient.sketch.clear(),
                5 => gradient.version = gradient.version.saturating_sub(rng.random_range(1..20)),
                _ => {}
            }
            hierarchy.submit(gradient).unwrap();
        }
        let report = hierarchy.tick(0.01).unwrap();
        assert!(report.update_norm.is_finite(), "tick {tick}");
        if tick.is_multiple_of(1000) {
            largest = largest.max(extent(hierarchy));
        }
    }
    largest
}

/// The largest factor of all layers.
fn extent(hierarchy: &LoraHierarchy) -> f32 {
    let snapshot = hierarchy.snapshot();
    let agents: Vec<AgentId> = snapshot.agents().chain([AgentId::default()]).collect();
    let layers =
        agents.iter().flat_map(|agent| Level::ALL.into_iter().filter_map(|level| snapshot.layer(level, *agent)));
    let values = layers.flatten().flat_map(|pair| pair.a.iter().chain(&pair.b));
    values.fold(0.0, |most, x| {
        assert!(x.is_finite());
        most.max(x.abs())
    })
}

fn survives(config: HierarchyConfig) {
    let mut config = with_rank(2, config);
    config.health_ticks = 1000;
    config.provenance = false;
    let mut hierarchy = born(config, &[shape("one", 9, 8)], &[0, 1]);
    let largest = storm(&mut hierarchy, 100_000);
    println!("largest factor {largest}, {} regimes", hierarchy.n_regimes());
    // All steps of 0.01 together could carry it to 1000.
    assert!(largest > 0.0 && largest < 100.0, "{largest}");
    assert!(hierarchy.gradient_vitals().staleness.refused > 0);
    let moved = |to: &Level| hierarchy.migration().channel(*to).unwrap().statistics().arrived;
    assert!(Level::ALL[..4].iter().all(|to| moved(to) > 0), "circuits moved through every channel");
}

#[test]
fn nothing_diverges_in_a_hundred_thousand_ticks() {
    survives(HierarchyConfig::default());
}

#[test]
fn nothing_diverges_in_a_hundred_thousand_ticks_of_the_seeds() {
    survives(HierarchyConfig::seeds());
}

fn layer_arcs(hierarchy: &LoraHierarchy, agent: u64) -> Vec<Arc<dynlora_core::ModuleFactors>> {
    let snapshot = hierarchy.snapshot();
    Level::PRIVATE.iter().flat_map(|level| snapshot.layer(*level, AgentId(agent)).unwrap().clone()).collect()
}

#[test]
fn agents_that_rest_are_left_alone() {
    // What is learned is shared by a quorum of agents; one alone moves nobody else's layers.
    let mut config = lively();
    // The end of a regime restarts everybody's moments.
    config.regime.enabled = false;
    let mut hierarchy = born(config, &modules(), &[0, 1, 2, 3]);
    (0..30).for_each(|_| drop(step(&mut hierarchy, &[0, 1, 2, 3], 1.0)));
    // Until the last circuits of the resting ones have moved.
    (0..200).for_each(|_| drop(step(&mut hierarchy, &[0], 1.0)));
    let before: Vec<_> = (1..4).map(|agent| layer_arcs(&hierarchy, agent)).collect();
    let state = |hierarchy: &LoraHierarchy, agent| hierarchy.layer(Level::Agent, AgentId(agent)).unwrap().state();
    let (ids, resting) = (hierarchy.snapshot(), state(&hierarchy, 2));
    // No report of health, which would ask everybody.
    for _ in 0..31 {
        let report = step(&mut hierarchy, &[0], 1.0);
        if report.health.is_some() {
            break;
        }
        assert_eq!(report.updates.len(), 5);
        assert_eq!(state(&hierarchy, 2), resting, "tick {}", report.tick);
    }
    for (agent, before) in (1..4).zip(&before) {
        let after = layer_arcs(&hierarchy, agent);
        assert!(before.iter().zip(&after).all(|(x, y)| Arc::ptr_eq(x, y)), "agent {agent}");
        for level in Level::PRIVATE {
            let hash = |snapshot: &dynlora_core::Snapshot| snapshot.layer_hash(level, AgentId(agent)).unwrap();
            assert_eq!(hash(&ids), hash(&hierarchy.snapshot()));
        }
    }
}

/// One twin is asked for its health in every tick, for which all layers catch up; the other's layers rest.
#[test]
fn resting_and_then_catching_up_leads_to_the_same_numbers() {
    for config in [lively(), with_rank(3, HierarchyConfig::seeds())] {
        let [mut busy, mut resting] = [1, 0].map(|health_ticks| {
            let mut config = config.clone();
            config.health_ticks = health_ticks;
            born(config, &modules(), &[0, 1, 2])
        });
        for tick in 1..=250 {
            // Agent 1 rests for long, agent 2 for short; all of them rest at the end of the year.
            let agents: Vec<u64> = match tick {
                40..150 => vec![0],
                160..165 => Vec::new(),
                _ if tick % 6 < 3 => vec![0, 1, 2],
                _ => vec![0, 1],
            };
            // The ids differ, for the configurations do.
            for hierarchy in [&mut busy, &mut resting] {
                step(hierarchy, &agents, 1.0);
            }
            for agent in [0, 1, 2] {
                let values = |hierarchy: &LoraHierarchy| -> Vec<u32> {
                    let arcs = layer_arcs(hierarchy, agent);
                    arcs.iter().flat_map(|pair| pair.a.iter().chain(&pair.b).map(|x| x.to_bits())).collect()
                };
                assert_eq!(values(&busy), values(&resting), "agent {agent} at tick {tick}");
            }
        }
        // All of them learn, and have caught up.
        for hierarchy in [&mut busy, &mut resting] {
            step(hierarchy, &[0, 1, 2], 1.0);
        }
        for level in Level::ALL {
            for agent in [0, 1, 2].map(AgentId) {
                let state = |hierarchy: &LoraHierarchy| hierarchy.layer(level, agent).unwrap().state();
                assert_eq!(state(&busy), state(&resting), "{level} of agent {agent}");
            }
        }
        // What is kept of trajectories names snapshots, and their ids differ.
        let [kept, expected] = [&resting, &busy].map(|hierarchy| {
            let mut state = hierarchy.source().state();
            let entries = state["entries"].as_array_mut().unwrap();
            assert!(!entries.is_empty());
            entries.iter_mut().for_each(|entry| drop(entry.as_object_mut().unwrap().remove("snapshot").unwrap()));
            state
        });
        assert_eq!(kept, expected);
    }
}
