//! Steps allocate nothing. One test, alone in its process: the count is of the whole process.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{
    ActionValues, ActionValuesConfig, Active, Agent, AgentConfig, Batch, MemoryConfig, NStepConfig, NStepTd, Next,
    PrioritizedConfig, PrioritizedReplay, SetPointConfig, StepSize, Td, TdBatch, TdConfig, TdLambda, TdLambdaConfig,
    Transition, TrueOnlineTd, TrueOnlineTdConfig,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that the second hundred of `n` steps holds at most beyond what was there before.
fn held<T>(mut step: impl FnMut(u64) -> T) -> usize {
    let mut step = |t| {
        step(t);
    };
    (0..100).for_each(&mut step);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    (100..200).for_each(&mut step);
    ALLOCATOR.peak_usage() - before
}

fn follows<T>(t: u64, next: T) -> Next<T> {
    if t % 17 == 16 { Next::Terminated } else { Next::Continues(next) }
}

#[test]
fn a_step_allocates_nothing() {
    let rng = SplitMix64::stream(1, Purpose::Simulation, 0, 0);
    let state = |t: u64| std::array::from_fn::<f64, 8, _>(|i| rng.after(8 * t + i as u64).uniform());

    for step_size in [StepSize::Fixed(0.1), StepSize::Nag { eta: 0.1 }, StepSize::autostep(0.01)] {
        let mut td = Td::<f64>::new(8, TdConfig { step_size, ..Default::default() }).unwrap();
        assert_eq!(held(|t| td.update(&state(t), 1.0, follows(t, &state(t + 1))).unwrap()), 0);
    }
    let mut td = TdLambda::<f64>::new(8, TdLambdaConfig::default()).unwrap();
    assert_eq!(held(|t| td.update(&state(t), 1.0, follows(t, &state(t + 1))).unwrap()), 0);
    let mut td = TdLambda::<f64>::new(1000, TdLambdaConfig::default()).unwrap();
    let tiles = |t: u64| [(t % 7) as u32, 100 + (t % 3) as u32];
    assert_eq!(held(|t| td.update(&Active(&tiles(t)), 1.0, Next::Continues(&Active(&tiles(t + 1)))).unwrap()), 0);
    let mut td = TrueOnlineTd::<f64>::new(8, TrueOnlineTdConfig::default()).unwrap();
    assert_eq!(held(|t| td.update(&state(t), 1.0, follows(t, &state(t + 1))).unwrap()), 0);
    let mut td = NStepTd::<f64>::new(8, NStepConfig::default()).unwrap();
    assert_eq!(held(|t| td.update(&state(t), 1.0, follows(t, &state(t + 1))).unwrap()), 0);
    let mut q = ActionValues::<f64>::new(8, 4, ActionValuesConfig { lambda: 0.9, ..Default::default() }).unwrap();
    assert_eq!(held(|t| q.q_learning(&state(t), 2, 1.0, follows(t, &state(t + 1))).unwrap()), 0);
    let mut batch = TdBatch::<f32>::new(64, 8, TdConfig::default()).unwrap();
    let (x, r) = (vec![0.5; 512], vec![0.1; 64]);
    assert_eq!(held(|_| batch.update(&x, &r, &x, &r).unwrap()), 0);

    let mut replay = PrioritizedReplay::<f64>::new(8, 1 << 12, PrioritizedConfig::default()).unwrap();
    let mut drawn = Batch::default();
    let mut draws = rng;
    let replays = held(|t| {
        replay.push(&Transition { x: &state(t), action: 0, reward: 1.0, next: Next::Terminated }).unwrap();
        replay.sample(32, &mut draws, &mut drawn).unwrap();
        replay.update(&drawn.indices, &drawn.rewards).unwrap();
    });
    assert_eq!(replays, 0);

    let plain = AgentConfig::default();
    let replaying = AgentConfig { replay: Some(MemoryConfig::default()), ..plain.clone() };
    let steered = AgentConfig { set_point: Some(SetPointConfig::default()), lambda: 0.8, ..plain.clone() };
    for config in [plain, replaying, steered] {
        let mut agent = Agent::new(config).unwrap();
        let cycles = held(|t| {
            agent.observe(&[("load", rng.after(t).uniform()), ("errors", 1.0)]).unwrap();
            let action = agent.decide().unwrap().action;
            agent.reward(action as f64).unwrap();
            if t % 17 == 16 {
                agent.terminated().unwrap();
            }
            agent.tick().unwrap();
        });
        assert_eq!(cycles, 0);
    }
}
