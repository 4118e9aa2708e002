//! Cliff walking. Exact: linear solve. Learned: `rl_oracle2.py`, 30 runs of 500 episodes, `alpha` 0.5, `epsilon` 0.1, ties at random,
//! mean return of episodes 401 to 500 with its standard error.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{
    ActionValues, ActionValuesConfig, Active, Next, Ties, epsilon_greedy, epsilon_greedy_probabilities, greedy,
};

use crate::problems::cliff::{GOAL, START, mdp};

#[test]
fn exact_returns() {
    let cliff = mdp();
    let best = cliff.optimal_values(1.0);
    assert!((best[START] + 13.0).abs() < 1e-12);
    // epsilon-greedy on the best policy, which walks along the edge.
    let edge = cliff.greedy(&best, 1.0);
    let v = cliff.values_of(&edge, 0.1, 1.0);
    assert!((v[START] + 51.813_188).abs() < 5e-7, "{}", v[START]);
    // Policy iteration among policies that take any action with 0.1.
    let mut policy = vec![0; cliff.n_states()];
    let mut v = cliff.values_of(&policy, 0.1, 1.0);
    for _ in 0..60 {
        policy = cliff.greedy(&v, 1.0);
        v = cliff.values_of(&policy, 0.1, 1.0);
    }
    assert!((v[START] + 20.707_677).abs() < 5e-7, "{}", v[START]);
}

enum Method {
    Sarsa,
    ExpectedSarsa,
    Q,
}

/// Mean return of the last 100 of 500 episodes, and the length of the greedy path in the end.
fn run(method: &Method, run: u64) -> (f64, usize) {
    let (cliff, epsilon) = (mdp(), 0.1);
    let mut rng = SplitMix64::stream(4, Purpose::Simulation, run, 0);
    let config = ActionValuesConfig { gamma: 1.0, step_size: 0.5.into(), ..Default::default() };
    let mut q = ActionValues::<f64>::new(48, 4, config).unwrap();
    let act = |q: &ActionValues<f64>, state: usize, rng: &mut SplitMix64| {
        let mut values = [0.0; 4];
        q.values(&Active(&[state as u32]), &mut values).unwrap();
        (epsilon_greedy(&values, epsilon, Ties::Random, rng).unwrap(), values)
    };
    let mut sum = 0.0;
    for episode in 0..500 {
        let mut state = START;
        let (mut action, _) = act(&q, state, &mut rng);
        while state != GOAL {
            let outcome = cliff.outcomes[state][action][0];
            if episode >= 400 {
                sum += outcome.reward;
            }
            let (here, there) = ([state as u32], [outcome.state as u32]);
            let (x, next) = (Active(&here), Active(&there));
            let follows = |next| if outcome.over { Next::Terminated } else { Next::Continues(next) };
            // SARSA chooses before it learns, the others after.
            let (mut next_action, values) = act(&q, outcome.state, &mut rng);
            match method {
                Method::Sarsa => {
                    let next = if outcome.over { Next::Terminated } else { Next::Continues((&next, next_action)) };
                    q.sarsa(&x, action, outcome.reward, next).unwrap();
                }
                Method::ExpectedSarsa => {
                    let mut p = [0.0; 4];
                    epsilon_greedy_probabilities(&values, epsilon, Ties::Random, &mut p).unwrap();
                    let next = if outcome.over { Next::Terminated } else { Next::Continues((&next, &p[..])) };
                    q.expected_sarsa(&x, action, outcome.reward, next).unwrap();
                    next_action = act(&q, outcome.state, &mut rng).0;
                }
                Method::Q => {
                    q.q_learning(&x, action, outcome.reward, follows(&next)).unwrap();
                    next_action = act(&q, outcome.state, &mut rng).0;
                }
            }
            (state, action) = (outcome.state, next_action);
        }
    }
    let (mut state, mut steps) = (START, 0);
    while state != GOAL && steps < 100 {
        let mut values = [0.0; 4];
        q.values(&Active(&[state as u32]), &mut values).unwrap();
        state = cliff.outcomes[state][greedy(&values).unwrap()][0].state;
        steps += 1;
    }
    (sum / 100.0, steps)
}

/// Within four standard errors of the difference of two such means: a false alarm for another seed about 1 in 16,000.
fn check(name: &str, method: &Method, expected: f64, standard_error: f64) -> (f64, usize) {
    let runs: Vec<(f64, usize)> = (0..30).map(|i| run(method, i)).collect();
    let mean = runs.iter().map(|run| run.0).sum::<f64>() / 30.0;
    let mut steps: Vec<usize> = runs.iter().map(|run| run.1).collect();
    steps.sort_unstable();
    println!("{name}: {mean:.2}, expected {expected:.2} +- {standard_error}; greedy path {}", steps[15]);
    assert!((mean - expected).abs() < 4.0 * standard_error * 2.0_f64.sqrt(), "{name}: {mean}, expected {expected}");
    (mean, steps[15])
}

#[test]
fn learned_returns() {
    let (sarsa, safe) = check("SARSA", &Method::Sarsa, -28.15, 1.11);
    let (q, edge) = check("Q-learning", &Method::Q, -50.02, 1.70);
    let (expected, _) = check("Expected SARSA", &Method::ExpectedSarsa, -21.13, 0.34);
    // Q-learning walks along the edge and falls; the others pay a detour. Its return while it explores is that of the best policy.
    assert!(edge == 13 && safe > 13 && q < sarsa && sarsa < expected);
    assert!((q + 51.813_188).abs() < 4.0 * 1.70 && (expected + 20.707_677).abs() < 4.0 * 0.34);
}
