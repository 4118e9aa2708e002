//! True online TD(lambda) is the online lambda-return algorithm, which looks at the whole episode again at every step (van Seijen et al.
//! 2016, equations 9 to 12): an identity, whatever the episode.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{ActionValues, ActionValuesConfig, Next, Sparse, TrueOnlineTd, TrueOnlineTdConfig};

const DIM: usize = 5;

struct Episode {
    x: Vec<[f64; DIM]>,
    rewards: Vec<f64>,
    terminates: bool,
}

fn random_episode(rng: &mut SplitMix64, len: usize, terminates: bool) -> Episode {
    let x = (0..=len).map(|_| std::array::from_fn(|_| rng.normal())).collect();
    Episode { x, rewards: (0..len).map(|_| rng.normal()).collect(), terminates }
}

fn dot(w: &[f64], x: &[f64]) -> f64 {
    w.iter().zip(x).map(|(w, x)| w * x).sum()
}

/// Weights after the whole episode, by the definition.
fn forward_view(mut w0: Vec<f64>, episode: &Episode, alpha: f64, gamma: f64, lambda: f64) -> Vec<f64> {
    let len = episode.rewards.len();
    // `final_weights[t]`: weights at time `t` with what is known at time `t`.
    let mut final_weights = vec![w0.clone()];
    for horizon in 1..=len {
        let n_step = |k: usize, n: usize| {
            let rewards: f64 = (0..n).map(|i| gamma.powi(i as i32) * episode.rewards[k + i]).sum();
            let over = episode.terminates && k + n == len;
            let rest = if over { 0.0 } else { dot(&final_weights[k + n - 1], &episode.x[k + n]) };
            rewards + gamma.powi(n as i32) * rest
        };
        let mut w = w0.clone();
        for k in 0..horizon {
            let m = horizon - k;
            let weighted: f64 = (1..m).map(|n| (1.0 - lambda) * lambda.powi(n as i32 - 1) * n_step(k, n)).sum();
            let target = weighted + lambda.powi(m as i32 - 1) * n_step(k, m);
            let error = target - dot(&w, &episode.x[k]);
            w.iter_mut().zip(&episode.x[k]).for_each(|(w, x)| *w += alpha * error * x);
        }
        final_weights.push(w);
    }
    w0.clone_from(&final_weights[len]);
    w0
}

#[test]
fn true_online_is_the_online_lambda_return() {
    let (alpha, gamma) = (0.03, 0.9);
    for lambda in [0.0, 0.5, 0.9, 1.0] {
        let mut rng = SplitMix64::stream(3, Purpose::Simulation, (lambda * 10.0) as u64, 0);
        let config = TrueOnlineTdConfig { gamma, lambda, step_size: alpha.into() };
        let mut learner = TrueOnlineTd::<f64>::new(DIM, config).unwrap();
        let mut sparse = TrueOnlineTd::<f64>::new(DIM, config).unwrap();
        let mut control = ActionValues::<f64>::new(
            DIM,
            1,
            ActionValuesConfig { gamma, lambda, step_size: alpha.into(), ..Default::default() },
        )
        .unwrap();
        let mut w = vec![0.0; DIM];
        for (len, terminates) in [(20, true), (1, true), (13, false), (30, true)] {
            let episode = random_episode(&mut rng, len, terminates);
            w = forward_view(w, &episode, alpha, gamma, lambda);
            for t in 0..len {
                let (x, next, reward) = (&episode.x[t], &episode.x[t + 1], episode.rewards[t]);
                let follows = |state| match (t + 1 == len, terminates) {
                    (false, _) => Next::Continues(state),
                    (true, false) => Next::Truncated(state),
                    (true, true) => Next::Terminated,
                };
                learner.update(x, reward, follows(next)).unwrap();
                let indices: [u32; DIM] = std::array::from_fn(|i| i as u32);
                let as_sparse = |x| Sparse::new(&indices, x).unwrap();
                let (x_sparse, next_sparse) = (as_sparse(x), as_sparse(next));
                let next_sparse = match follows(next) {
                    Next::Continues(_) => Next::Continues(&next_sparse),
                    Next::Truncated(_) => Next::Truncated(&next_sparse),
                    Next::Terminated => Next::Terminated,
                };
                sparse.update(&x_sparse, reward, next_sparse).unwrap();
                let next_action = match follows(next) {
                    Next::Continues(next) => Next::Continues((next, 0)),
                    Next::Truncated(next) => Next::Truncated((next, 0)),
                    Next::Terminated => Next::Terminated,
                };
                control.true_online_sarsa(x, 0, reward, next_action).unwrap();
            }
            for (name, found) in
                [("dense", learner.weights()), ("sparse", sparse.weights()), ("SARSA", control.weights())]
            {
                let error = found.iter().zip(&w).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(error < 1e-10, "{name}, lambda {lambda}, {len} steps: {error:e}");
            }
        }
    }
}
