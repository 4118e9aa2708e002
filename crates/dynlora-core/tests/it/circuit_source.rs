//! The hierarchy tells its source of circuits what it sees, and goes on with it after a restart.

use std::sync::{Arc, Mutex};

use dynlora_core::{
    AgentId, CircuitCandidate, CircuitSource, ContentHash, HierarchyConfig, HierarchyRest, HierarchyState, Level,
    LoraHierarchy, ModuleActivity, PatternId, PlainMean, StackActivity, StackGradient, Trajectory,
};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;
use serde_json::Value;

use crate::shapes;

const AGENTS: [AgentId; 2] = [AgentId(0), AgentId(5)];

fn hierarchy(config: HierarchyConfig) -> LoraHierarchy {
    let base = ContentHash::of_bytes(b"base");
    let mut hierarchy = LoraHierarchy::new(config, &shapes(), base, 3, Box::new(PlainMean::default())).unwrap();
    AGENTS.into_iter().for_each(|agent| hierarchy.add_agent(agent).unwrap());
    hierarchy.publish().unwrap();
    hierarchy
}

/// One channel of each layer is at work in every batch, the others murmur; gradients and their sketches are noise.
fn gradient(hierarchy: &LoraHierarchy, agent: AgentId, tick: u64) -> StackGradient {
    let mut rng = stream_rng(11, Purpose::Task, agent.0, tick);
    let snapshot = hierarchy.snapshot();
    let modules = snapshot.shapes().iter().enumerate().map(|(module, shape)| {
        let ranks = Level::ALL.map(|level| snapshot.layer(level, agent).unwrap()[module].rank);
        let total: usize = ranks.iter().sum();
        let firsts: Vec<usize> = (0..5).map(|level| ranks[..level].iter().sum()).collect();
        let mut second_moment = vec![0.0; total * total];
        for channel in 0..total {
            let energy = if firsts.contains(&channel) { 100.0 } else { 1.0 };
            second_moment[channel * (total + 1)] = energy * (1.0 + 0.1 * rng.random::<f32>());
        }
        ModuleActivity { second_moment, inputs: vec![1.0; shape.d_in] }
    });
    let activity = Some(StackActivity { n_rows: 16, input_sum: Vec::new(), modules: modules.collect() });
    let mut noise = |n: usize| (0..n).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>();
    let levels = Level::ALL.map(|level| noise(hierarchy.layer(level, agent).unwrap().num_parameters()));
    StackGradient { agent, version: snapshot.version(), levels, activity, sketch: noise(256) }
}

fn run(hierarchy: &mut LoraHierarchy, ticks: std::ops::Range<u64>) {
    for tick in ticks {
        for agent in AGENTS {
            let gradient = gradient(hierarchy, agent, tick);
            hierarchy.submit(gradient).unwrap();
        }
        hierarchy.tick(1e-3).unwrap();
    }
}

#[test]
fn trajectories_are_kept_by_default_and_survive_a_restart_bit_for_bit() {
    let config = HierarchyConfig::default().with_total_rank(31);
    let mut one = hierarchy(config.clone());
    run(&mut one, 0..40);
    let kept = one.source().state();
    let entries = kept["entries"].as_array().unwrap();
    assert!(!entries.is_empty(), "{kept}");
    assert_eq!(kept["trajectories"], 80);
    assert!(entries.iter().any(|entry| entry["occurrences"].as_u64().unwrap() >= 8), "{kept}");

    let HierarchyState { layers, own, rest } = one.state();
    let text = serde_json::to_string(&rest).unwrap();
    let rest: HierarchyRest = serde_json::from_str(&text).unwrap();
    let mut other = hierarchy(config);
    other.restore(&HierarchyState { layers, own, rest }).unwrap();
    assert_eq!(other.source().state(), kept);
    run(&mut one, 40..60);
    run(&mut other, 40..60);
    assert_eq!(other.state(), one.state());
    assert_eq!(other.snapshot().id(), one.snapshot().id());

    one.remove_agent(AGENTS[1]).unwrap();
    let entries = one.source().state();
    let agents: Vec<&Value> = entries["entries"].as_array().unwrap().iter().map(|e| &e["circuit"]["agent"]).collect();
    assert!(!agents.contains(&&Value::from(5)), "{agents:?}");
}

/// What an older version saved has no source; a cache without room keeps nothing.
#[test]
fn a_state_without_trajectories_is_an_empty_cache() {
    let mut config = HierarchyConfig::default().with_total_rank(31);
    config.trajectories.capacity = 0;
    let mut none = hierarchy(config.clone());
    run(&mut none, 0..20);
    assert_eq!(none.source().state()["entries"], Value::Array(Vec::new()));

    let HierarchyState { layers, own, rest } = none.state();
    let mut rest = serde_json::to_value(rest).unwrap();
    rest.as_object_mut().unwrap().remove("source").unwrap();
    let rest: HierarchyRest = serde_json::from_value(rest).unwrap();
    let mut other = hierarchy(config);
    other.restore(&HierarchyState { layers, own, rest }).unwrap();
    assert_eq!(other.source().state()["trajectories"], 0);
}

#[derive(Debug, Default)]
struct Seen {
    trajectories: Vec<(u64, AgentId, usize)>,
    forgotten: Vec<AgentId>,
    asked: u64,
}

#[derive(Debug)]
struct Witness(Arc<Mutex<Seen>>);

impl CircuitSource for Witness {
    fn candidates(&mut self, _: u64) -> Vec<CircuitCandidate> {
        self.0.lock().unwrap().asked += 1;
        Vec::new()
    }

    fn consolidated(&mut self, _: PatternId) {}

    fn observe(&mut self, trajectory: &Trajectory<'_>) {
        for (circuit, activation) in trajectory.active {
            assert_eq!(circuit.nodes.len(), activation.len());
            // Root mean squares of what the batch says: 100 to 110 over 16 rows for the channel at work, 1 to 1.1 for others.
            assert!(activation.iter().all(|h| (0.25..2.63).contains(h)), "{activation:?}");
            assert!(circuit.agent.is_none_or(|agent| agent == trajectory.agent));
        }
        let seen = (trajectory.tick, trajectory.agent, trajectory.active.len());
        self.0.lock().unwrap().trajectories.push(seen);
    }

    fn forget_agent(&mut self, agent: AgentId) {
        self.0.lock().unwrap().forgotten.push(agent);
    }
}

#[test]
fn another_source_is_told_the_same() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let config = HierarchyConfig::default().with_total_rank(31);
    let mut hierarchy = hierarchy(config).with_source(Box::new(Witness(Arc::clone(&seen))));
    run(&mut hierarchy, 0..20);
    // A batch on an older snapshot is learned from and not looked at.
    let mut late = gradient(&hierarchy, AGENTS[0], 20);
    late.version -= 1;
    hierarchy.submit(late).unwrap();
    hierarchy.tick(1e-3).unwrap();
    hierarchy.remove_agent(AGENTS[0]).unwrap();

    let seen = seen.lock().unwrap();
    assert_eq!((seen.trajectories.len(), seen.asked), (40, 21));
    let order: Vec<(u64, AgentId)> = seen.trajectories.iter().map(|(tick, agent, _)| (*tick, *agent)).collect();
    assert!(order.is_sorted());
    assert!(seen.trajectories.iter().any(|(.., n_active)| *n_active > 0));
    assert_eq!(seen.forgotten, [AGENTS[0]]);
}
