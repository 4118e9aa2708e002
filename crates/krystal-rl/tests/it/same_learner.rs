//! Learners that must be each other.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{
    ActionValues, ActionValuesConfig, Active, Next, Real, Sparse, Td, TdBatch, TdConfig, TdLambda, TdLambdaConfig,
    TraceKind,
};

const DIM: usize = 11;

fn state(rng: &mut SplitMix64) -> [f64; DIM] {
    std::array::from_fn(|_| rng.normal())
}

#[test]
fn sarsa_with_one_action_is_td_lambda() {
    for trace in [TraceKind::Accumulating, TraceKind::Replacing] {
        for lambda in [0.0, 0.8] {
            let config = TdLambdaConfig { gamma: 0.9, lambda, step_size: 0.02.into(), trace };
            let mut td = TdLambda::<f64>::new(DIM, config).unwrap();
            let config = ActionValuesConfig { gamma: 0.9, lambda, step_size: 0.02.into(), trace };
            let mut sarsa = ActionValues::<f64>::new(DIM, 1, config).unwrap();
            let (mut expected, mut q) = (sarsa.clone(), sarsa.clone());
            let mut rng = SplitMix64::stream(7, Purpose::Simulation, 0, 0);
            let mut x = state(&mut rng);
            for step in 0..500 {
                let (next_x, reward) = (state(&mut rng), rng.normal());
                let follows = match step % 17 {
                    16 => Next::Terminated,
                    8 => Next::Truncated(&next_x),
                    _ => Next::Continues(&next_x),
                };
                td.update(&x, reward, follows).unwrap();
                let with_action = match follows {
                    Next::Continues(x) => Next::Continues((x, 0)),
                    Next::Truncated(x) => Next::Truncated((x, 0)),
                    Next::Terminated => Next::Terminated,
                };
                let with_probabilities = match follows {
                    Next::Continues(x) => Next::Continues((x, &[1.0][..])),
                    Next::Truncated(x) => Next::Truncated((x, &[1.0][..])),
                    Next::Terminated => Next::Terminated,
                };
                sarsa.sarsa(&x, 0, reward, with_action).unwrap();
                expected.expected_sarsa(&x, 0, reward, with_probabilities).unwrap();
                q.q_learning(&x, 0, reward, follows).unwrap();
                x = next_x;
            }
            for other in [&sarsa, &expected, &q] {
                let worst = other.weights().iter().zip(td.weights()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-12, "{trace:?} {lambda}: {worst:e}");
            }
        }
    }
}

/// Watkins's rule by hand: traces survive the best action and no other.
#[test]
fn q_lambda_drops_its_trace_after_a_step_aside() {
    let config = ActionValuesConfig { gamma: 1.0, lambda: 1.0, step_size: 0.5.into(), ..Default::default() };
    let mut q = ActionValues::<f64>::new(3, 2, config).unwrap();
    // The second action of state 1 is the better one.
    q.set_weights(&[0.0, 0.0, 0.0, 0.0, 1.0, 0.0]).unwrap();
    let x: [Active<'_>; 3] = [Active(&[0]), Active(&[1]), Active(&[2])];
    // To state 1 with error 1: q(0, 0) becomes 0.5.
    q.q_learning(&x[0], 0, 0.0, Next::Continues(&x[1])).unwrap();
    assert_eq!(q.weights(), [0.5, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let mut aside = q.clone();
    // The best action keeps the trace of (0, 0): error 3 moves both by 1.5.
    q.q_learning(&x[1], 1, 4.0, Next::Continues(&x[2])).unwrap();
    assert_eq!(q.weights(), [2.0, 0.0, 0.0, 0.0, 2.5, 0.0]);
    // Another drops it: error 4 moves its own value alone.
    aside.q_learning(&x[1], 0, 4.0, Next::Continues(&x[2])).unwrap();
    assert_eq!(aside.weights(), [0.5, 2.0, 0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn sparse_features_are_dense_ones() {
    let config = TdLambdaConfig { gamma: 0.9, lambda: 0.8, step_size: 0.1.into(), trace: TraceKind::Accumulating };
    let mut dense = TdLambda::<f64>::new(DIM, config).unwrap();
    let (mut sparse, mut active) = (dense.clone(), dense.clone());
    let mut rng = SplitMix64::stream(8, Purpose::Simulation, 0, 0);
    let indices = |rng: &mut SplitMix64| [rng.below(5) as u32, 5 + rng.below(6) as u32];
    let mut here = indices(&mut rng);
    for _ in 0..300 {
        let (there, reward) = (indices(&mut rng), rng.normal());
        let full = |at: &[u32; 2]| std::array::from_fn::<f64, DIM, _>(|i| f64::from(at.contains(&(i as u32))));
        dense.update(&full(&here), reward, Next::Continues(&full(&there))).unwrap();
        active.update(&Active(&here), reward, Next::Continues(&Active(&there))).unwrap();
        let ones = [1.0; 2];
        let (x, next) = (Sparse::new(&here, &ones).unwrap(), Sparse::new(&there, &ones).unwrap());
        sparse.update(&x, reward, Next::Continues(&next)).unwrap();
        here = there;
    }
    assert_eq!(sparse.weights(), active.weights());
    let worst = sparse.weights().iter().zip(dense.weights()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-8, "{worst:e}");
}

fn batch_is_many_learners<R: Real>(dim: usize) {
    let n = 37;
    let config = TdConfig { gamma: 0.9, step_size: 0.03.into() };
    let mut batch = TdBatch::<R>::new(n, dim, config).unwrap();
    let mut single: Vec<Td<R>> = (0..n).map(|_| Td::new(dim, config).unwrap()).collect();
    let mut rng = SplitMix64::stream(9, Purpose::Simulation, dim as u64, 0);
    for step in 0..50 {
        let numbers =
            |rng: &mut SplitMix64, n: usize| -> Vec<R> { (0..n).map(|_| R::from_f64(rng.normal())).collect() };
        let (x, next) = (numbers(&mut rng, batch.n_features()), numbers(&mut rng, batch.n_features()));
        let rewards = numbers(&mut rng, batch.n_places());
        let over = |l: usize| (l + step).is_multiple_of(7);
        let discounts: Vec<R> = (0..batch.n_places()).map(|l| R::from_f64(if over(l) { 0.0 } else { 0.9 })).collect();
        batch.update(&x, &rewards, &next, &discounts).unwrap();
        for (l, single) in single.iter_mut().enumerate() {
            let of = |all: &[R]| -> Vec<R> { (0..dim).map(|i| all[batch.place(l, i)]).collect() };
            let next = of(&next);
            let next = if over(l) { Next::Terminated } else { Next::Continues(&next) };
            let delta = single.update(&of(&x), rewards[l], next).unwrap();
            let found = batch.errors()[l].to_f64();
            assert!((found - delta.to_f64()).abs() <= 1e-4 * (1.0 + found.abs()), "{found} {delta:?}");
            // Where an episode ends, the one computes 0 times the next state and the other nothing.
            if !over(l) {
                assert_eq!(found.to_bits(), delta.to_f64().to_bits(), "learner {l}, step {step}");
            }
        }
    }
    for (l, single) in single.iter().enumerate() {
        for (i, w) in single.weights().iter().enumerate() {
            assert_eq!(batch.weights()[batch.place(l, i)].to_f64().to_bits(), w.to_f64().to_bits());
        }
    }
}

#[test]
fn a_batch_is_many_learners_bit_for_bit() {
    for dim in [1, 3, 8, 16, 21] {
        batch_is_many_learners::<f32>(dim);
        batch_is_many_learners::<f64>(dim);
    }
}
