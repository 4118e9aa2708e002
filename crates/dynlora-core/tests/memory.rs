//! What agents that rest hold in memory. In a process of its own: nothing else may allocate meanwhile.
//!
//! Resonance is the plain mean, which remembers no agent; this crate knows no other. The `ResonanceEngine` of dynlora-resonance
//! holds a few numbers for each agent, and at most five sketches of those whose last gradient came less than 48 ticks ago, with
//! its default levels: nothing of agents that have rested as long as these.

use dynlora_core::{
    AgentId, ContentHash, HierarchyConfig, Level, LoraHierarchy, ModuleActivity, ModuleShape, PlainMean, StackActivity,
    StackGradient,
};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

/// A decoder of 3 million parameters.
fn shapes() -> Vec<ModuleShape> {
    let mut shapes = Vec::new();
    for block in 0..4 {
        for (name, d_in, d_out) in [
            ("q_proj", 256, 256),
            ("k_proj", 256, 128),
            ("v_proj", 256, 128),
            ("o_proj", 256, 256),
            ("gate_proj", 256, 688),
            ("up_proj", 256, 688),
            ("down_proj", 688, 256),
        ] {
            shapes.push(ModuleShape { name: format!("model.layers.{block}.{name}"), d_in, d_out });
        }
    }
    shapes
}

fn gradient(hierarchy: &LoraHierarchy, agent: AgentId) -> StackGradient {
    let mut rng = stream_rng(1, Purpose::Task, agent.0, hierarchy.n_ticks());
    let mut draws = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random::<f32>() - 0.5).collect() };
    let levels = Level::ALL.map(|level| draws(hierarchy.layer(level, agent).unwrap().num_parameters()));
    let total: usize = hierarchy.config().ranks.iter().sum();
    let modules = hierarchy.shapes().iter().map(|shape| {
        let h = draws(total);
        let second_moment = h.iter().flat_map(|x| h.iter().map(move |y| x * y)).collect();
        ModuleActivity { second_moment, inputs: draws(8 * shape.d_in) }
    });
    let activity = Some(StackActivity { n_rows: 1, input_sum: Vec::new(), modules: modules.collect() });
    let sketch = draws(1024);
    StackGradient { agent, version: hierarchy.snapshot().version(), levels, activity, sketch }
}

/// An agent comes, learns for some ticks, and rests until its moments are gone.
fn visit(hierarchy: &mut LoraHierarchy, agent: AgentId) {
    hierarchy.add_agent(agent).unwrap();
    hierarchy.publish().unwrap();
    for tick in 0..72 {
        if tick < 8 {
            let gradient = gradient(hierarchy, agent);
            hierarchy.submit(gradient).unwrap();
        }
        hierarchy.tick(1e-3).unwrap();
    }
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024.0 * line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()?)
}

#[test]
fn agents_that_rest_hold_little_more_than_their_parameters() {
    if resident_bytes().is_none() {
        println!("skipped: the memory of this process cannot be read here");
        return;
    }
    let mut config = HierarchyConfig::default();
    config.ranks = [1, 1, 1, 8, 4];
    config.provenance = false;
    let resonance = Box::new(PlainMean::default());
    let base = ContentHash::of_bytes(b"base");
    let mut hierarchy = LoraHierarchy::new(config, &shapes(), base, 1, resonance).unwrap();
    // What everybody shares, and what one agent needs to learn, is there after the first few; something is protected.
    (0..2).for_each(|agent| visit(&mut hierarchy, AgentId(agent)));
    hierarchy.consolidate();
    (2..4).for_each(|agent| visit(&mut hierarchy, AgentId(agent)));
    let before = resident_bytes().unwrap();
    const MORE: u64 = 24;
    (4..4 + MORE).for_each(|agent| visit(&mut hierarchy, AgentId(agent)));
    (0..400).for_each(|_| drop(hierarchy.tick(1e-3).unwrap()));
    let held = resident_bytes().unwrap() - before;
    let parameters: usize =
        Level::PRIVATE.iter().map(|level| hierarchy.layer(*level, AgentId(4)).unwrap().num_parameters()).sum();
    let ratio = held / (MORE as f64 * parameters as f64 * 4.0);
    println!("{parameters} parameters an agent, {ratio:.3} times their bytes");
    assert!((0.9..1.3).contains(&ratio), "{ratio}");
}
