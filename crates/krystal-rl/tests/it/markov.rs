//! Gymnasium 1.4's tables, written again and solved exactly, against the values that its own tables give (`rl_oracle2.py`); and learners
//! against those.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{ActionValues, ActionValuesConfig, Active, Next, StepSize, Ties, epsilon_greedy};

use crate::problems::{frozen_lake, mdp::Mdp, taxi};

#[test]
fn frozen_lake_is_gymnasiums() {
    let lake = frozen_lake::mdp();
    assert!((lake.optimal_values(0.99)[0] - 0.542_025_931_999).abs() < 1e-11);
    assert!((lake.optimal_values(1.0)[0] - 14.0 / 17.0).abs() < 1e-9);
}

#[test]
fn taxi_is_gymnasiums() {
    let taxi_ = taxi::mdp();
    for (gamma, expected) in [(0.99, 6.327_464), (1.0, 7.93)] {
        let v = taxi_.optimal_values(gamma);
        let mean = taxi::starts().map(|s| v[s]).sum::<f64>() / taxi::starts().count() as f64;
        assert!((mean - expected).abs() < 1e-6, "gamma {gamma}: {mean}");
    }
}

/// The exact worth, from `start`, of the greedy policy of what Q(lambda) has learned in `n_steps`.
fn worth_of_learned(problem: &Mdp, starts: &[usize], lambda: f64, n_steps: usize, epsilon: f64, seed: u64) -> f64 {
    let gamma = 0.99;
    let step_size = StepSize::RobbinsMonro { alpha: 0.5, half_life: n_steps as f64 / 50.0, power: 0.8 };
    let config = ActionValuesConfig { gamma, lambda, step_size, ..Default::default() };
    let mut q = ActionValues::<f64>::new(problem.n_states(), problem.n_actions(), config).unwrap();
    let mut values = vec![0.0; problem.n_actions()];
    let mut rng = SplitMix64::stream(seed, Purpose::Simulation, 0, 0);
    let mut state = starts[0];
    let mut steps_of_episode = 0;
    for _ in 0..n_steps {
        q.values(&Active(&[state as u32]), &mut values).unwrap();
        let action = epsilon_greedy(&values, epsilon, Ties::Random, &mut rng).unwrap();
        let mut u = rng.uniform();
        let outcomes = &problem.outcomes[state][action];
        let outcome = outcomes.iter().find(|o| {
            u -= o.p;
            u < 0.0
        });
        let outcome = outcome.unwrap_or(&outcomes[outcomes.len() - 1]);
        steps_of_episode += 1;
        let there = [outcome.state as u32];
        let next = Active(&there);
        let next = match (outcome.over, steps_of_episode >= 100) {
            (true, _) => Next::Terminated,
            (false, true) => Next::Truncated(&next),
            (false, false) => Next::Continues(&next),
        };
        q.q_learning(&Active(&[state as u32]), action, outcome.reward, next).unwrap();
        state = outcome.state;
        if next.ends() {
            state = starts[rng.below(starts.len() as u64) as usize];
            steps_of_episode = 0;
        }
    }
    let policy: Vec<usize> = (0..problem.n_states())
        .map(|s| {
            q.values(&Active(&[s as u32]), &mut values).unwrap();
            krystal_rl::greedy(&values).unwrap()
        })
        .collect();
    let v = problem.values_of(&policy, 0.0, gamma);
    starts.iter().map(|s| v[*s]).sum::<f64>() / starts.len() as f64
}

#[test]
fn q_learning_crosses_the_lake() {
    let lake = frozen_lake::mdp();
    let random = lake.values_of(&[0; 16], 1.0, 0.99)[0];
    assert!(random < 0.02, "{random}");
    for seed in 0..4 {
        for lambda in [0.0, 0.5] {
            let worth = worth_of_learned(&lake, &[0], lambda, 200_000, 0.5, seed);
            assert!(worth > 0.52, "seed {seed}, lambda {lambda}: {worth} of 0.542");
        }
    }
}

#[test]
fn q_learning_drives_the_taxi() {
    let starts: Vec<usize> = taxi::starts().collect();
    let worth = worth_of_learned(&taxi::mdp(), &starts, 0.0, 1_500_000, 0.3, 1);
    assert!(worth > 6.1, "{worth} of 6.327");
}
