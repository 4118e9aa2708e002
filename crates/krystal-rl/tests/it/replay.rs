//! Replay buffers.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{Batch, Error, Next, PrioritizedConfig, PrioritizedReplay, SumTree, Transition, UniformReplay};

fn step(x: &[f64], action: usize) -> Transition<'_, f64> {
    Transition { x, action, reward: x[0], next: Next::Terminated }
}

/// Four steps with errors 1, 2, 3, 4 and next to nothing added.
fn four(beta: f64) -> PrioritizedReplay<f64> {
    let config = PrioritizedConfig { alpha: 0.6, epsilon: 1e-100, beta };
    let mut replay = PrioritizedReplay::new(1, 4, config).unwrap();
    for i in 0..4 {
        replay.push(&step(&[f64::from(i)], 0)).unwrap();
    }
    replay.update(&[0, 1, 2, 3], &[1.0, -2.0, 3.0, -4.0]).unwrap();
    replay
}

/// numpy: `p^.6 / sum`, `(4 P)^-.4 / max` (`pi.py`).
#[test]
fn probabilities_and_weights_are_the_formulas() {
    let replay = four(0.4);
    let expected = [0.148_229_502_616, 0.224_673_912_761, 0.286_554_612_987, 0.340_541_971_635];
    for (i, p) in expected.iter().enumerate() {
        assert!((replay.probability(i).unwrap() - p).abs() < 1e-12);
    }
    let (mut batch, mut seen) = (Batch::default(), [f64::NAN; 4]);
    let mut rng = SplitMix64::stream(13, Purpose::Replay, 0, 0);
    replay.sample(64, &mut rng, &mut batch).unwrap();
    for (index, weight) in batch.indices.iter().zip(&batch.weights) {
        seen[*index] = *weight;
    }
    let expected = [1.0, 0.846_745_312_363, 0.768_229_356_394, 0.716_977_624_008];
    assert!(seen.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-12), "{seen:?}");
    assert!(batch.x.iter().zip(&batch.indices).all(|(x, i)| *x == *i as f64));
    assert!(batch.terminated.iter().all(|over| *over));
}

/// Chi-square with 3 degrees of freedom at 1 - 10^-6, for single draws; draws from equal parts spread less than independent ones.
#[test]
fn draws_have_their_probabilities() {
    let replay = four(0.4);
    let mut rng = SplitMix64::stream(14, Purpose::Replay, 0, 0);
    let mut batch = Batch::default();
    let chi2 = |counts: &[f64; 4], n: f64| -> f64 {
        (0..4)
            .map(|i| (counts[i] - n * replay.probability(i).unwrap()).powi(2) / (n * replay.probability(i).unwrap()))
            .sum()
    };
    let mut counts = [0.0; 4];
    for _ in 0..100_000 {
        replay.sample(1, &mut rng, &mut batch).unwrap();
        counts[batch.indices[0]] += 1.0;
    }
    assert!(chi2(&counts, 1e5) < 30.7, "{counts:?}");
    let mut counts = [0.0; 4];
    for _ in 0..1000 {
        replay.sample(100, &mut rng, &mut batch).unwrap();
        batch.indices.iter().for_each(|i| counts[*i] += 1.0);
    }
    assert!(chi2(&counts, 1e5) < 3.0, "{counts:?}");
    let mut uniform = UniformReplay::new(1, 4).unwrap();
    for i in 0..4 {
        uniform.push(&step(&[f64::from(i)], 0)).unwrap();
    }
    let mut counts = [0.0; 4];
    for _ in 0..25_000 {
        uniform.sample(4, &mut rng, &mut batch).unwrap();
        batch.indices.iter().for_each(|i| counts[*i] += 1.0);
    }
    let chi2: f64 = counts.iter().map(|n| (n - 25_000.0_f64).powi(2) / 25_000.0).sum();
    assert!(chi2 < 30.7, "{counts:?}");
}

/// `border` and others add the change of a leaf to each node above it, in `f32`. The same arithmetic, and ours, while priorities shrink and then
/// fall: theirs ends below 0.
#[test]
fn sums_do_not_drift() {
    const N: usize = 1 << 12;
    let mut rng = SplitMix64::stream(15, Purpose::Simulation, 0, 0);
    let mut incremental = vec![0.0_f32; 2 * N];
    let add_change = |tree: &mut Vec<f32>, leaf: usize, weight: f32| {
        let mut node = leaf + N;
        let change = weight - tree[node];
        while node > 0 {
            tree[node] += change;
            node /= 2;
        }
    };
    let mut tree = SumTree::new(N).unwrap();
    let mut exact = vec![0.0_f64; N];
    let n_updates = 2_000_000;
    for update in 0..n_updates {
        let leaf = rng.below(N as u64) as usize;
        let weight = ((0.5 + rng.uniform()) * 10.0 * 0.01_f64.powf(f64::from(update) / f64::from(n_updates))) as f32;
        add_change(&mut incremental, leaf, weight);
        tree.set(leaf, weight.into()).unwrap();
        exact[leaf] = weight.into();
    }
    for (leaf, exact) in exact.iter_mut().enumerate() {
        let weight = 1e-7 * (1.0 + leaf as f32 / N as f32);
        add_change(&mut incremental, leaf, weight);
        tree.set(leaf, weight.into()).unwrap();
        *exact = weight.into();
    }
    let exact: f64 = exact.iter().sum();
    let (theirs, ours) = (f64::from(incremental[1]), tree.total());
    println!("exact {exact:e}, recomputed {ours:e}, incremental f32 {theirs:e}");
    assert!(((ours - exact) / exact).abs() < 1e-14);
    assert!(((theirs - exact) / exact).abs() > 1.0, "the scenario is too kind: {theirs:e}");
}

#[test]
fn trees_of_every_size_find_every_weight() {
    for n in [1, 2, 15, 16, 17, 255, 256, 257, 5000] {
        let mut tree = SumTree::new(n).unwrap();
        assert_eq!(tree.find(0.0), None);
        let indices: Vec<usize> = (0..n).collect();
        let weights: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i % 3 != 1)) * (1 + i % 5) as f64).collect();
        tree.set_all(&indices, &weights).unwrap();
        let mut one_by_one = SumTree::new(n).unwrap();
        indices.iter().zip(&weights).for_each(|(i, w)| one_by_one.set(*i, *w).unwrap());
        assert_eq!(tree.total(), one_by_one.total());
        let mut before = 0.0;
        for (i, w) in weights.iter().enumerate() {
            if *w > 0.0 {
                assert_eq!((tree.find(before), tree.find(before + 0.99 * w)), (Some(i), Some(i)), "{n} {i}");
            }
            before += w;
        }
        assert_eq!(tree.total(), before);
        // Points outside lead to weights that are there.
        for point in [-1.0, before, 2.0 * before, f64::INFINITY] {
            let found = tree.find(point).unwrap();
            assert!(weights[found] > 0.0);
        }
    }
}

#[test]
fn the_oldest_goes_first_and_new_ones_are_drawn() {
    let mut replay = PrioritizedReplay::<f64>::new(1, 3, PrioritizedConfig::default()).unwrap();
    for i in 0..5 {
        replay.push(&step(&[f64::from(i)], i as usize)).unwrap();
    }
    let kept: Vec<usize> = (0..3).map(|i| replay.get(i).unwrap().action).collect();
    assert_eq!((replay.len(), kept), (3, vec![3, 4, 2]));
    replay.update(&[0, 1, 2], &[9.0, 0.1, 0.1]).unwrap();
    let at = replay.push(&step(&[5.0], 5)).unwrap();
    assert_eq!(at, 2);
    // As great as the greatest so far.
    assert!((replay.probability(2).unwrap() - replay.probability(0).unwrap()).abs() < 1e-12);
    let steps: Vec<[f64; 1]> = vec![[6.0], [7.0]];
    replay.extend(steps.iter().map(|x| step(x, 9)), &[1.0, 2.0]).unwrap();
    assert_eq!((replay.get(0).unwrap().action, replay.get(1).unwrap().action), (9, 9));
}

#[test]
fn what_is_no_step_is_refused() {
    let mut replay = PrioritizedReplay::<f64>::new(2, 3, PrioritizedConfig::default()).unwrap();
    let mut rng = SplitMix64::stream(16, Purpose::Replay, 0, 0);
    let mut batch = Batch::default();
    assert!(matches!(replay.sample(1, &mut rng, &mut batch), Err(Error::Empty)));
    assert!(matches!(replay.push(&step(&[1.0], 0)), Err(Error::Length { .. })));
    assert!(matches!(replay.push(&step(&[1.0, f64::NAN], 0)), Err(Error::NotFinite { .. })));
    let bad = [f64::INFINITY; 2];
    let next = Transition { x: &[0.0, 0.0], action: 0, reward: 0.0, next: Next::Continues(&bad[..]) };
    assert!(matches!(replay.push(&next), Err(Error::NotFinite { .. })));
    assert!(replay.is_empty());
    replay.push(&step(&[1.0, 2.0], 0)).unwrap();
    let before = replay.clone();
    assert!(matches!(replay.update(&[0, 1], &[1.0, 1.0]), Err(Error::OutOfRange { index: 1, .. })));
    assert!(matches!(replay.update(&[0], &[f64::NAN]), Err(Error::NotFinite { .. })));
    assert!(matches!(replay.update(&[0], &[]), Err(Error::Length { .. })));
    assert_eq!(replay, before);
    let alpha = PrioritizedConfig { alpha: -1.0, ..Default::default() };
    assert!(matches!(PrioritizedReplay::<f32>::new(1, 1, alpha), Err(Error::Setting { name: "alpha", .. })));
    assert!(SumTree::new(0).is_err());
}

/// Powers of huge errors would be infinite, and what is drawn by infinite weights is anything.
#[test]
fn no_error_makes_a_weight_infinite() {
    for (alpha, epsilon) in [(0.0, 1e-6), (0.6, 1e-6), (1.0, 1.0), (2.0, 1e-6)] {
        let config = PrioritizedConfig { alpha, epsilon, beta: 1.0 };
        let mut replay = PrioritizedReplay::<f64>::new(1, 8, config).unwrap();
        for _ in 0..4 {
            replay.push(&Transition { x: &[1.0], action: 0, reward: 0.0, next: Next::Terminated }).unwrap();
        }
        replay.update(&[0, 1, 2, 3], &[0.0, 1.0, 1e308, -1e308]).unwrap();
        let shares: Vec<f64> = (0..4).map(|index| replay.probability(index).unwrap()).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{alpha} {epsilon}: {shares:?}");
        assert!(shares.windows(2).all(|pair| pair[0] <= pair[1]), "{alpha} {epsilon}: {shares:?}");
        let mut batch = Batch::default();
        replay.sample(16, &mut SplitMix64::stream(1, Purpose::Replay, 0, 0), &mut batch).unwrap();
        assert!(batch.weights.iter().all(|w| w.is_finite() && *w > 0.0), "{alpha} {epsilon}: {:?}", batch.weights);
    }
}
