//! A small hierarchy that lives: random gradients with activity, agents that come and go, regimes that end.

use dynlora_core::{
    AgentId, ContentHash, HierarchyConfig, Level, LoraHierarchy, ModuleActivity, ModuleShape, PlainMean, Snapshot,
    StackActivity, StackGradient, TickReport,
};
use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::RngExt;

use crate::shape;

/// Two small modules, one wide and one tall.
pub(crate) fn modules() -> Vec<ModuleShape> {
    vec![shape("blocks.0.up", 9, 14), shape("blocks.0.down", 14, 9)]
}

pub(crate) fn born(config: HierarchyConfig, shapes: &[ModuleShape], agents: &[u64]) -> LoraHierarchy {
    let base = ContentHash::of_bytes(b"base");
    let mut hierarchy = LoraHierarchy::new(config, shapes, base, 11, Box::new(PlainMean::default())).unwrap();
    agents.iter().for_each(|agent| hierarchy.add_agent(AgentId(*agent)).unwrap());
    hierarchy.publish().unwrap();
    hierarchy
}

/// As many channels in every layer.
pub(crate) fn with_rank(rank: usize, mut config: HierarchyConfig) -> HierarchyConfig {
    config.ranks = [rank; 5];
    config
}

/// Settings under which much happens in few ticks: three channels a layer, circuits that are soon stable, wide migration.
pub(crate) fn lively() -> HierarchyConfig {
    let mut config = with_rank(3, HierarchyConfig::default());
    config.regime.least_ticks = 8;
    config.circuits.n_windows = 1;
    config.circuits.tau_stable = 0.05;
    config.circuits.graph_ticks = 4;
    config.migration.rates = [0.5; 4];
    config
}

fn draws(rng: &mut StreamRng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The gradient of an agent at a step: one of three signals, 20 steps each in turn, and noise. With it comes what the channels
/// saw.
pub(crate) fn gradient(snapshot: &Snapshot, agent: u64, step: u64, scale: f32) -> StackGradient {
    let agent = AgentId(agent);
    let ranks: Vec<[usize; 5]> = (0..snapshot.shapes().len())
        .map(|module| Level::ALL.map(|level| snapshot.layer(level, agent).unwrap()[module].rank))
        .collect();
    let mut noise = stream_rng(3, Purpose::Task, agent.0, step);
    let mut signal = stream_rng(4, Purpose::Task, agent.0 % 2, step / 20 % 3);
    // Gradients settle within a regime, so that the next one begins with a jump.
    let size = scale * (0.05 + 3.0 * (-((step % 20) as f32) / 4.0).exp());
    let mut values = |n: usize| -> Vec<f32> {
        draws(&mut signal, n).iter().zip(draws(&mut noise, n)).map(|(s, e)| size * (s + 0.3 * e)).collect()
    };
    let levels = Level::ALL.map(|level| {
        let widths = ranks.iter().zip(snapshot.shapes().iter());
        values(widths.map(|(ranks, shape)| ranks[level.index()] * (shape.d_in + shape.d_out)).sum())
    });
    let sketch = values(64);
    let modules = ranks.iter().zip(snapshot.shapes().iter()).map(|(ranks, shape)| {
        let total: usize = ranks.iter().sum();
        // The same half of the channels at every other step.
        let h: Vec<f32> = (0..total)
            .map(|j| if (j as u64 + step).is_multiple_of(2) { 2.0 } else { 0.1 } + noise.random::<f32>())
            .collect();
        let second_moment = h.iter().flat_map(|x| h.iter().map(move |y| 16.0 * x * y)).collect();
        ModuleActivity { second_moment, inputs: draws(&mut noise, 2 * shape.d_in) }
    });
    let modules: Vec<ModuleActivity> = modules.collect();
    let input_sum = draws(&mut noise, snapshot.shapes()[0].d_in);
    let activity = StackActivity { n_rows: 16, input_sum, modules };
    StackGradient { agent, version: snapshot.version(), levels, activity: Some(activity), sketch }
}

/// A step: these agents learn, and a tick passes.
pub(crate) fn step(hierarchy: &mut LoraHierarchy, agents: &[u64], scale: f32) -> TickReport {
    let (snapshot, step) = (hierarchy.snapshot(), hierarchy.n_ticks() + 1);
    for agent in agents {
        hierarchy.submit(gradient(&snapshot, *agent, step, scale)).unwrap();
    }
    hierarchy.tick(0.02).unwrap()
}
