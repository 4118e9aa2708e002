//! TD(0) and the agent: steps a second.

use std::hint::black_box;
use std::time::Instant;

use crate::host::thread_cpu_seconds;
use crate::report::median;
use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{Agent, AgentConfig, Next, Td, TdBatch, TdConfig};

/// Features.
const DIM: usize = 8;

/// Learners side by side.
const LEARNERS: usize = 64;

fn config() -> TdConfig {
    TdConfig { gamma: 0.95, step_size: 0.01.into() }
}

fn numbers(n: usize) -> Vec<f32> {
    let mut rng = SplitMix64::stream(1, Purpose::Simulation, 0, 0);
    (0..n).map(|_| rng.normal() as f32).collect()
}

/// Updates a second of one learner of 8 features, each waiting for the one before.
///
/// # Errors
/// None.
pub fn sequential(n: u64) -> anyhow::Result<f64> {
    let mut td = Td::<f32>::new(DIM, config())?;
    let rewards = numbers(1024);
    let states: Vec<[f32; DIM]> = numbers(1025 * DIM).as_chunks::<DIM>().0.to_vec();
    let start = thread_cpu_seconds();
    for _ in 0..n / 1024 {
        for (states, reward) in states.windows(2).zip(&rewards) {
            td.update(&states[0], *reward, Next::Continues(&states[1]))?;
        }
    }
    let rate = (n / 1024 * 1024) as f64 / (thread_cpu_seconds() - start);
    black_box(td.weights());
    Ok(rate)
}

/// Updates a second of 64 learners of 8 features that step together.
///
/// # Errors
/// None.
pub fn batched(n: u64) -> anyhow::Result<f64> {
    let mut batch = TdBatch::<f32>::new(LEARNERS, DIM, config())?;
    let n_features = batch.n_features();
    let states: Vec<Vec<f32>> = numbers(17 * n_features).chunks(n_features).map(<[f32]>::to_vec).collect();
    let (rewards, discounts) = (numbers(LEARNERS), vec![0.95; LEARNERS]);
    let rounds = n / (16 * LEARNERS as u64);
    let start = thread_cpu_seconds();
    for _ in 0..rounds {
        for states in states.windows(2) {
            batch.update(&states[0], &rewards, &states[1], &discounts)?;
        }
    }
    let rate = (rounds * 16 * LEARNERS as u64) as f64 / (thread_cpu_seconds() - start);
    black_box(batch.weights());
    Ok(rate)
}

/// Cycles a second of one agent as it is by default: observe 8 numbers, decide among 4 actions and learn, reward.
///
/// # Errors
/// None.
pub fn cycles(n: u64) -> anyhow::Result<f64> {
    let mut agent = Agent::new(AgentConfig::default())?;
    let states: Vec<[f32; DIM]> = numbers(1024 * DIM).as_chunks::<DIM>().0.to_vec();
    let start = thread_cpu_seconds();
    for cycle in 0..n as usize {
        agent.observe(&states[cycle % 1024])?;
        let action = agent.decide()?.action;
        agent.reward(if action == cycle % 4 { 1.0 } else { 0.0 })?;
    }
    Ok(n as f64 / (thread_cpu_seconds() - start))
}

/// Nanoseconds of the parts of a cycle.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// `observe`
    pub observe: f64,
    /// `decide` without what it learns.
    pub decide: f64,
    /// What `decide` learns from the step before.
    pub learn: f64,
    /// `reward`
    pub reward: f64,
    /// Loops, clocks, and the world.
    pub overhead: f64,
}

/// Sixty-four agents go through `n` cycles together, and each part is timed for all of them at once, so that the clock is read once for 64
/// calls. Every other cycle ends its episode, so that half of the decisions have no step to learn from: the difference to the other half
/// is what learning costs. Medians over the cycles.
///
/// # Errors
/// None.
pub fn profile(n: u64) -> anyhow::Result<Profile> {
    let states: Vec<[f32; DIM]> = numbers(1024 * DIM).as_chunks::<DIM>().0.to_vec();
    let mut agents = (0..LEARNERS as u64)
        .map(|seed| Agent::new(AgentConfig { seed, ..AgentConfig::default() }))
        .collect::<Result<Vec<_>, _>>()?;
    let mut actions = [0; LEARNERS];
    let [mut observe, mut decide, mut learn, mut reward, mut overhead] = [const { Vec::new() }; 5];
    let ns = |since: Instant| 1e9 * since.elapsed().as_secs_f64() / LEARNERS as f64;
    for cycle in 0..n as usize {
        let start = Instant::now();
        for (i, agent) in agents.iter_mut().enumerate() {
            agent.observe(&states[(cycle + 7 * i) % 1024])?;
        }
        let observed = ns(start);
        let since = Instant::now();
        for (action, agent) in actions.iter_mut().zip(&mut agents) {
            *action = agent.decide()?.action;
        }
        let decided = ns(since);
        let since = Instant::now();
        for (action, agent) in actions.iter().zip(&mut agents) {
            agent.reward(if *action == cycle % 4 { 1.0 } else { 0.0 })?;
        }
        let rewarded = ns(since);
        overhead.push(ns(start) - observed - decided - rewarded);
        observe.push(observed);
        reward.push(rewarded);
        if cycle % 2 == 1 {
            learn.push(decided);
            agents.iter_mut().try_for_each(Agent::terminated)?;
        } else {
            decide.push(decided);
        }
    }
    let (decide, both) = (median(decide), median(learn));
    Ok(Profile {
        observe: median(observe),
        decide,
        learn: both - decide,
        reward: median(reward),
        overhead: median(overhead),
    })
}

/// Nanoseconds to get memory for one state and give it back: from a pool of a hundred, as the seed's `StatePool`, and from the allocator.
pub fn state_memory(n: u64) -> (f64, f64) {
    let mut pool: Vec<Box<[f64; DIM + 1]>> = (0..100).map(|_| Box::new([0.0; DIM + 1])).collect();
    let start = Instant::now();
    for i in 0..n {
        let mut state = pool.pop().unwrap_or_default();
        state[0] = i as f64;
        pool.push(black_box(state));
    }
    let pooled = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for i in 0..n {
        let mut state = Box::new([0.0; DIM + 1]);
        state[0] = i as f64;
        drop(black_box(state));
    }
    let allocated = start.elapsed().as_secs_f64();
    (1e9 * pooled / n as f64, 1e9 * allocated / n as f64)
}
