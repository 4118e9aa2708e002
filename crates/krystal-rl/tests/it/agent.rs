//! The agent: it learns, each of its parts is good for something, and it refuses what is none.

use std::collections::{BTreeMap, HashMap};

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_phase::{ControllerConfig, PhaseControllerConfig};
use krystal_rl::{
    Agent, AgentConfig, Error, MemoryConfig, Method, Policy, PrioritizedConfig, SetPointConfig, StepSize, TunerConfig,
};

/// Mean reward of the last quarter of `n` cycles in a world of four contexts, in each of which another of four actions pays 1 with
/// probability 0.9 and the others with 0.1.
fn contextual_bandit(config: &AgentConfig, seed: u64, n: u64) -> f64 {
    let mut agent = Agent::new(AgentConfig { seed, state_dim: 4, gamma: 0.0, ..config.clone() }).unwrap();
    let mut rng = SplitMix64::stream(seed, Purpose::Simulation, 0, 0);
    let mut sum = 0.0;
    for cycle in 0..n {
        let context = rng.below(4) as usize;
        agent.observe(&std::array::from_fn::<f64, 4, _>(|i| f64::from(u8::from(i == context)))).unwrap();
        let action = agent.decide().unwrap().action;
        let reward = f64::from(u8::from(rng.uniform() < if action == context { 0.9 } else { 0.1 }));
        agent.reward(reward).unwrap();
        agent.tick().unwrap();
        if cycle >= n - n / 4 {
            sum += reward;
        }
    }
    sum / (n / 4) as f64
}

/// A random agent earns 0.3, the best 0.9.
#[test]
fn it_learns_a_contextual_bandit() {
    let random = AgentConfig { phase: frozen_at(1e6), ..AgentConfig::default() };
    for seed in 0..5 {
        let lost = contextual_bandit(&random, seed, 4000);
        assert!(lost < 0.4, "at random {lost}");
        for (name, config) in [
            ("default", AgentConfig::default()),
            ("rates of phases", AgentConfig { policy: Policy::PhaseRates, ..Default::default() }),
            (
                "vanishing steps",
                AgentConfig {
                    learning_rate: StepSize::RobbinsMonro { alpha: 0.3, half_life: 100.0, power: 0.8 },
                    ..Default::default()
                },
            ),
            ("nag", AgentConfig { learning_rate: StepSize::Nag { eta: 0.3 }, ..Default::default() }),
        ] {
            let earned = contextual_bandit(&config, seed, 4000);
            println!("{name}, seed {seed}: {earned:.3}");
            assert!(earned > 0.55, "{name}, seed {seed}: {earned}");
        }
    }
}

fn frozen_at(temperature: f64) -> PhaseControllerConfig {
    PhaseControllerConfig {
        controller: ControllerConfig::Given,
        initial_temperature: temperature,
        ..PhaseControllerConfig::default()
    }
}

/// Mean steps of the last ten of 60 episodes in a corridor of seven fields with the exit at the right end, 100 at most; from the middle a random
/// walk takes 24 and the shortest way 4.
fn corridor(config: &AgentConfig, seed: u64) -> f64 {
    let mut agent = Agent::new(AgentConfig { seed, state_dim: 7, action_dim: 2, ..config.clone() }).unwrap();
    let see = |field: usize| std::array::from_fn::<f64, 7, _>(|i| f64::from(u8::from(i == field)));
    let mut last = 0.0;
    for episode in 0..60 {
        let mut field = 3;
        for step in 1..=100 {
            agent.observe(&see(field)).unwrap();
            let right = agent.decide().unwrap().action == 1;
            let over = right && field == 6;
            field = if right { (field + 1).min(6) } else { field.saturating_sub(1) };
            agent.reward(if over { 1.0 } else { 0.0 }).unwrap();
            if over {
                agent.terminated().unwrap();
            } else if step == 100 {
                agent.truncated(&see(field)).unwrap();
            }
            if over || step == 100 {
                last += if episode >= 50 { f64::from(step) / 10.0 } else { 0.0 };
                break;
            }
        }
    }
    last
}

#[test]
fn it_learns_the_way_out() {
    let cold = PhaseControllerConfig { initial_temperature: 0.1, ..Default::default() };
    let base = AgentConfig { phase: cold, bias: false, ..AgentConfig::default() };
    let random = AgentConfig { phase: frozen_at(1e6), ..base.clone() };
    let memory = MemoryConfig { capacity: 500, batch: 4, prioritized: None };
    let mut random_steps = 0.0;
    for seed in 0..5 {
        random_steps += corridor(&random, seed) / 5.0;
        for (name, config) in [
            ("Expected SARSA", base.clone()),
            ("SARSA(0.8)", AgentConfig { method: Method::Sarsa, lambda: 0.8, ..base.clone() }),
            ("Q-learning", AgentConfig { method: Method::QLearning, ..base.clone() }),
            ("Q(0.8)", AgentConfig { method: Method::QLearning, lambda: 0.8, ..base.clone() }),
            ("Q with replay", AgentConfig { method: Method::QLearning, replay: Some(memory), ..base.clone() }),
            (
                "prioritised replay",
                AgentConfig {
                    replay: Some(MemoryConfig { prioritized: Some(PrioritizedConfig::default()), ..memory }),
                    ..base.clone()
                },
            ),
        ] {
            let steps = corridor(&config, seed);
            println!("{name}, seed {seed}: {steps:.1}");
            assert!(steps < 8.0, "{name}, seed {seed}: {steps}");
        }
    }
    assert!(random_steps > 15.0, "{random_steps}");
}

/// Mean reward over 6 spells of 400 cycles with four arms: the best pays 1, the others 0.5, and each spell another is best.
fn moving_bandit(config: &AgentConfig, seed: u64) -> f64 {
    let mut agent = Agent::new(AgentConfig { seed, state_dim: 1, bias: false, gamma: 0.0, ..config.clone() }).unwrap();
    let mut sum = 0.0;
    for cycle in 0..2400 {
        agent.observe(&[1.0]).unwrap();
        let best = [2, 0, 3, 1, 2, 3][cycle / 400];
        let reward = if agent.decide().unwrap().action == best { 1.0 } else { 0.5 };
        agent.reward(reward).unwrap();
        sum += reward / 2400.0;
    }
    sum
}

#[test]
fn phases_are_good_for_worlds_that_change() {
    let mean = |phase| {
        let config = AgentConfig { phase, ..AgentConfig::default() };
        (0..10).map(|seed| moving_bandit(&config, seed)).sum::<f64>() / 10.0
    };
    let phases = mean(PhaseControllerConfig::default());
    let fixed = [0.001, 0.01, 0.3, 1.0].map(|temperature| (temperature, mean(frozen_at(temperature))));
    println!("phases {phases:.3}, fixed temperatures {fixed:?}");
    assert!(fixed.iter().all(|(_, fixed)| phases > fixed + 0.01), "{phases} against {fixed:?}");
}

/// Mean reward of the second half of 3000 cycles. The first arm pays 1, after 600 cycles 0.2; the second always 0.9, but cold: it has never been
/// tried often enough to be known.
fn stale_bandit(config: &AgentConfig, seed: u64) -> (f64, f64) {
    let mut agent = Agent::new(AgentConfig { seed, state_dim: 1, bias: false, gamma: 0.0, ..config.clone() }).unwrap();
    let (mut sum, mut effort) = (0.0, 0.0);
    for cycle in 0..3000 {
        agent.observe(&[1.0]).unwrap();
        let reward = match agent.decide().unwrap().action {
            0 if cycle < 600 => 1.0,
            0 => 0.2,
            1 if cycle >= 600 => 0.9,
            _ => 0.0,
        };
        agent.reward(reward).unwrap();
        if cycle >= 1500 {
            sum += reward / 1500.0;
            effort += agent.tick().unwrap().effort / 1500.0;
        }
    }
    (sum, effort)
}

#[test]
fn a_set_point_heats_until_the_reward_is_enough() {
    // So cold that nothing is explored once a value stands out.
    let cold = AgentConfig { phase: frozen_at(0.01), ..AgentConfig::default() };
    let set_point = SetPointConfig { reward: 0.7, ..SetPointConfig::default() };
    let steered = AgentConfig { set_point: Some(set_point), ..cold.clone() };
    for seed in 0..5 {
        let (without, _) = stale_bandit(&cold, seed);
        let (with, effort) = stale_bandit(&steered, seed);
        println!("seed {seed}: {without:.3} without, {with:.3} with, at an effort of {effort:.3}");
        assert!(without < 0.3 && with > 0.8 && effort < 0.1, "seed {seed}: {without} {with} {effort}");
    }
}

#[test]
fn a_swarm_mends_a_learning_rate_that_is_far_off() {
    let slow = AgentConfig { learning_rate: StepSize::Fixed(3e-4), ..AgentConfig::default() };
    let tuned = AgentConfig { swarm: Some(TunerConfig::default()), ..slow.clone() };
    let (mut without, mut with) = (0.0, 0.0);
    for seed in 0..5 {
        let (alone, together) = (contextual_bandit(&slow, seed, 14_000), contextual_bandit(&tuned, seed, 14_000));
        println!("seed {seed}: {alone:.3} without, {together:.3} with");
        without += alone / 5.0;
        with += together / 5.0;
        assert!(together > alone, "seed {seed}");
    }
    assert!(with > without + 0.15, "{with} with, {without} without");
}

/// A learning rate at which the learner alone overflows: the trial fails, its weights are taken back, the agent goes on.
#[test]
fn a_trial_that_diverges_costs_its_window_alone() {
    let wild = AgentConfig { learning_rate: StepSize::Fixed(3.0), ..AgentConfig::default() };
    let broken = std::panic::catch_unwind(|| contextual_bandit(&wild, 0, 14_000));
    assert!(broken.is_err(), "the scenario is too kind");
    let tuned = AgentConfig { swarm: Some(TunerConfig::default()), ..wild };
    for seed in 0..3 {
        let earned = contextual_bandit(&tuned, seed, 14_000);
        println!("seed {seed}: {earned:.3}");
        assert!(earned > 0.5, "seed {seed}: {earned}");
    }
}

fn small() -> Agent {
    Agent::new(AgentConfig { state_dim: 2, action_dim: 3, ..AgentConfig::default() }).unwrap()
}

#[test]
fn what_is_no_observation_changes_nothing() {
    let mut agent = small();
    agent.observe(&[("a", 1.0)]).unwrap();
    let before = agent.to_bytes().unwrap();
    let refused = |agent: &mut Agent, seen: &[(&str, f64)]| agent.observe(seen).unwrap_err();
    assert!(matches!(agent.observe(&[f64::NAN, 0.0]), Err(Error::NotFinite { index: 0, .. })));
    assert!(matches!(agent.observe(&[0.0_f32; 3]), Err(Error::Length { expected: 2, found: 3, .. })));
    assert!(matches!(agent.observe(&Vec::<f64>::new()), Err(Error::Length { found: 0, .. })));
    assert!(matches!(refused(&mut agent, &[("b", 1.0), ("a", f64::INFINITY)]), Error::NotFinite { .. }));
    assert!(matches!(refused(&mut agent, &[("b", 1.0), ("b", 2.0)]), Error::NamedTwice { .. }));
    let error = refused(&mut agent, &[("b", 1.0), ("a", 2.0), ("c", 3.0)]);
    assert_eq!(error.to_string(), "the observation has a new name `c` and all 2 places of the state are taken");
    assert_eq!(agent.to_bytes().unwrap(), before);
}

#[test]
fn calls_have_their_order() {
    let mut agent = small();
    let is_order = |result: krystal_rl::Result<()>| matches!(result, Err(Error::Order { .. }));
    let bytes = |agent: &Agent| agent.to_bytes().unwrap();
    let before = bytes(&agent);
    assert!(is_order(agent.decide().map(|_| ())) && is_order(agent.reward(1.0)) && is_order(agent.terminated()));
    assert_eq!(agent.reward(1.0).unwrap_err().to_string(), "`reward` was called before `decide`, expected after it");
    assert_eq!(bytes(&agent), before);
    agent.observe(&[0.0, 0.0]).unwrap();
    agent.decide().unwrap();
    let before = bytes(&agent);
    assert!(is_order(agent.decide().map(|_| ())) && is_order(agent.observe(&[0.0, 0.0])));
    assert!(is_order(agent.terminated()) && is_order(agent.truncated(&[0.0, 0.0])));
    assert!(matches!(agent.reward(f64::NAN), Err(Error::NotFinite { what: "reward", .. })));
    assert_eq!(bytes(&agent), before);
    agent.reward(1.0).unwrap();
    assert!(is_order(agent.reward(1.0)) && is_order(agent.decide().map(|_| ())));
    agent.terminated().unwrap();
    assert!(is_order(agent.terminated()));
    assert_eq!(agent.cycle(), 1);
}

#[test]
fn settings_that_mean_nothing() {
    let new = |config| Agent::new(config).map(|_| ());
    let with = AgentConfig::default;
    assert!(matches!(new(AgentConfig { action_dim: 0, ..with() }), Err(Error::NoActions)));
    assert!(matches!(new(AgentConfig { state_dim: 0, ..with() }), Err(Error::Setting { name: "state_dim", .. })));
    assert!(matches!(new(AgentConfig { gamma: 2.0, ..with() }), Err(Error::Setting { name: "gamma", .. })));
    assert!(matches!(new(AgentConfig { checkpoint_every: 0, ..with() }), Err(Error::Setting { .. })));
    let replay = Some(MemoryConfig::default());
    assert!(matches!(new(AgentConfig { replay, lambda: 0.5, ..with() }), Err(Error::Setting { name: "lambda", .. })));
    assert!(matches!(
        new(AgentConfig { replay, method: Method::Sarsa, ..with() }),
        Err(Error::Setting { name: "replay", .. })
    ));
    let swarm = Some(TunerConfig { window: 0, ..Default::default() });
    assert!(matches!(new(AgentConfig { swarm, ..with() }), Err(Error::Setting { name: "window", .. })));
    let swarm = Some(TunerConfig { n_particles: 0, ..Default::default() });
    assert!(matches!(new(AgentConfig { swarm, ..with() }), Err(Error::Swarm { .. })));
    let set_point = Some(SetPointConfig { horizon: f64::NAN, ..Default::default() });
    assert!(matches!(new(AgentConfig { set_point, ..with() }), Err(Error::Setting { name: "horizon", .. })));
    let phase = PhaseControllerConfig { initial_temperature: -1.0, ..Default::default() };
    assert!(matches!(new(AgentConfig { phase, ..with() }), Err(Error::Phase { .. })));
}

#[test]
fn names_find_their_places_whatever_holds_them() {
    let decisions = |see: &dyn Fn(&mut Agent, f64)| {
        let mut agent = small();
        for cycle in 0..50 {
            see(&mut agent, f64::from(cycle % 7) / 7.0);
            let action = agent.decide().unwrap().action;
            agent.reward(action as f64 / 3.0).unwrap();
        }
        agent.learner().weights().to_vec()
    };
    let by_place = decisions(&|agent, x| agent.observe(&[x, 1.0 - x]).unwrap());
    let pairs = decisions(&|agent, x| agent.observe(&[("a", x), ("b", 1.0 - x)]).unwrap());
    let turned = decisions(&|agent, x| {
        agent.observe(&BTreeMap::from([("a", 0.0), ("b", 0.0)])).unwrap();
        agent.observe(&[("b", 1.0 - x), ("a", x)]).unwrap();
    });
    let hashed = decisions(&|agent, x| agent.observe(&HashMap::from([("b", 1.0 - x), ("a", x)])).unwrap());
    assert!(by_place == pairs && pairs == turned && turned == hashed);
    assert!(by_place.iter().any(|w| *w != 0.0));
}
