//! The sum has the bits of the tree's definition, however it is computed.

use proptest::prelude::*;
use sphere_hierarchy::{Accumulation, Reduction, SphereConfig, SphereHierarchy, reduce, reduce_on_threads};

use crate::support::{Narrow, Planted, Streamed, bits, naive, on_ranks, on_ranks_with, value};

fn expected(n_leaves: usize, n: usize, accumulation: Accumulation) -> Vec<f32> {
    let planted = Planted::new(n);
    naive(n_leaves, n, accumulation, |leaf, at| Some(planted.weight_of(leaf) * value(leaf, at)))
}

fn config(threads: usize, depth: Option<u32>, accumulation: Accumulation, shuffle: Option<u64>) -> SphereConfig {
    SphereConfig { threads: Some(threads), depth, accumulation, shuffle, ..SphereConfig::default() }
}

fn over_ranks(ranks: usize, n_leaves: usize, n: usize, config: &SphereConfig) -> Vec<Reduction> {
    on_ranks(ranks, n_leaves, |collective, own| {
        SphereHierarchy::new(config.clone()).unwrap().run_on(collective, &Planted::new(n), own).unwrap()
    })
}

#[test]
fn every_depth_on_every_number_of_threads() {
    let n = 17;
    for n_leaves in [1, 12, 13, 145, 500, 1_728] {
        let batches: Vec<usize> = (0..n_leaves).collect();
        for accumulation in [Accumulation::Plain, Accumulation::Compensated] {
            let expected = expected(n_leaves, n, accumulation);
            for threads in 1..=8 {
                for depth in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
                    // In one order for one kind of sum, shuffled for the other.
                    let shuffle = (accumulation == Accumulation::Compensated).then_some(threads as u64);
                    let mut spheres = SphereHierarchy::new(config(threads, depth, accumulation, shuffle)).unwrap();
                    let found = spheres.run(&Planted::new(n), &batches).unwrap();
                    let case = format!("{n_leaves} leaves, {threads} threads, depth {depth:?}, {accumulation:?}");
                    assert_eq!(bits(&found.gradient), bits(&expected), "{case}");
                    assert_eq!(found.statistics.spheres.iter().map(|s| s.n_batches).sum::<usize>(), n_leaves);
                    assert_eq!(found.statistics.locks, 0);
                    let squares: f64 = expected.iter().map(|x| f64::from(*x).powi(2)).sum();
                    assert!((found.norm - squares.sqrt()).abs() <= 1e-12 * found.norm, "{case}");
                }
            }
        }
    }
}

#[test]
fn ranks_get_the_bits_of_one_machine() {
    // The longer gradients are exchanged by segments, the shorter gathered whole; some ranks have no leaf.
    for (n_leaves, n) in [(1, 5), (3, 70_000), (30, 70_000), (100, 50), (150, 9_000), (144, 300_000)] {
        for accumulation in [Accumulation::Plain, Accumulation::Compensated] {
            let one = over_ranks(1, n_leaves, n, &config(1, None, accumulation, None));
            let some = n.min(50);
            assert_eq!(bits(&one[0].gradient[..some]), bits(&expected(n_leaves, some, accumulation)));
            for ranks in [2, 4, 7] {
                for (threads, depth) in [(1, Some(1)), (2, None)] {
                    for found in over_ranks(ranks, n_leaves, n, &config(threads, depth, accumulation, None)) {
                        let same = bits(&found.gradient) == bits(&one[0].gradient);
                        assert!(same, "{n_leaves} leaves of {n} over {ranks}, {accumulation:?}");
                        assert_eq!(found.norm.to_bits(), one[0].norm.to_bits());
                        assert_eq!(found.statistics.n_batches, n_leaves);
                    }
                }
            }
        }
    }
}

#[test]
fn ranks_need_not_have_equal_parts() {
    let (n_leaves, n) = (160, 20);
    let expected = expected(n_leaves, n, Accumulation::Plain);
    for bounds in [[0, 0, 160, 160], [0, 1, 13, 160], [0, 144, 145, 160], [0, 70, 71, 160]] {
        let found = on_ranks_with(&bounds, |collective, own| {
            let mut spheres = SphereHierarchy::new(config(2, Some(1), Accumulation::Plain, None)).unwrap();
            spheres.run_on(collective, &Planted::new(n), own).unwrap().gradient
        });
        assert!(found.iter().all(|found| bits(found) == bits(&expected)), "{bounds:?}");
    }
}

#[test]
fn buckets_change_nothing() {
    let n_leaves = 150;
    let batches: Vec<usize> = (0..n_leaves).collect();
    for buckets in [vec![1_000], vec![1, 0, 500, 499], vec![10; 100]] {
        let n: usize = buckets.iter().sum();
        let expected = expected(n_leaves, n, Accumulation::Plain);
        for threads in [1, 2, 4] {
            for depth in [None, Some(0), Some(1), Some(2)] {
                let streamed = Streamed { planted: Planted::new(n), buckets: buckets.clone() };
                let mut spheres = SphereHierarchy::new(config(threads, depth, Accumulation::Plain, None)).unwrap();
                let found = spheres.run_streaming(&streamed, &batches).unwrap();
                assert_eq!(bits(&found.gradient), bits(&expected), "{} buckets, {threads} threads", buckets.len());
            }
        }
    }
}

#[test]
fn half_the_bytes_are_widened_before_they_are_added() {
    let (n_leaves, n) = (150, 33);
    let batches: Vec<usize> = (0..n_leaves).collect();
    let planted = Planted::new(n);
    let narrow = |leaf: usize, at: usize| planted.weight_of(leaf) * half::bf16::from_f32(value(leaf, at)).to_f32();
    for accumulation in [Accumulation::Plain, Accumulation::Compensated] {
        let expected = naive(n_leaves, n, accumulation, |leaf, at| Some(narrow(leaf, at)));
        for (threads, depth) in [(1, Some(0)), (2, None), (4, Some(1))] {
            let mut spheres = SphereHierarchy::new(config(threads, depth, accumulation, None)).unwrap();
            let found = spheres.run(&Narrow(Planted::new(n)), &batches).unwrap();
            assert_eq!(bits(&found.gradient), bits(&expected), "{threads} threads, {depth:?}");
        }
    }
}

#[test]
fn buffers_in_memory_have_the_same_sum() {
    for (n_leaves, n) in [(1, 10), (12, 40_000), (13, 16_385), (150, 20_000)] {
        let leaves: Vec<Vec<f32>> = (0..n_leaves).map(|leaf| (0..n).map(|at| value(leaf, at)).collect()).collect();
        let sources: Vec<&[f32]> = leaves.iter().map(Vec::as_slice).collect();
        let weights: Vec<f32> = (0..n_leaves).map(|leaf| Planted::new(n).weight_of(leaf)).collect();
        for accumulation in [Accumulation::Plain, Accumulation::Compensated] {
            let expected = expected(n_leaves, n, accumulation);
            let (mut one, mut many) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            let norm = reduce(&sources, &weights, accumulation, &mut one).unwrap();
            let norms = reduce_on_threads(&sources, &weights, accumulation, &mut many).unwrap();
            assert!(bits(&one) == bits(&expected) && bits(&many) == bits(&expected), "{n_leaves} of {n}");
            assert_eq!(norm.to_bits(), norms.to_bits());
        }
    }
}

#[test]
fn compensation_is_nearer_to_the_exact_sum() {
    let (n_leaves, n) = (1_728, 200);
    let leaves: Vec<Vec<f32>> = (0..n_leaves).map(|leaf| (0..n).map(|at| value(leaf, at)).collect()).collect();
    let sources: Vec<&[f32]> = leaves.iter().map(Vec::as_slice).collect();
    let error = |accumulation| {
        let mut sum = vec![0.0; n];
        reduce(&sources, &[], accumulation, &mut sum).unwrap();
        sphere_hierarchy::exact::compare(&sum, &sources, &[])
    };
    let (plain, compensated) = (error(Accumulation::Plain), error(Accumulation::Compensated));
    // The tree's bound: 11 additions at each of three levels.
    assert!(plain.max_in_u <= 33.0 && plain.n_differing > 0, "{plain:?}");
    assert!(compensated.n_differing <= n / 20 && compensated.max_in_u < 1.0, "{compensated:?}");
    assert!(compensated.relative_norm < plain.relative_norm);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_way_of_computing_gives_the_same_bits(
        n_leaves in 1_usize..400,
        n in 0_usize..40,
        threads in 1_usize..=8,
        depth in 0_u32..=4,
        ranks in prop::sample::select(vec![1_usize, 2, 4, 7]),
        shuffle in prop::option::of(any::<u64>()),
        compensated: bool,
    ) {
        let accumulation = if compensated { Accumulation::Compensated } else { Accumulation::Plain };
        let expected = expected(n_leaves, n, accumulation);
        for found in over_ranks(ranks, n_leaves, n, &config(threads, Some(depth), accumulation, shuffle)) {
            prop_assert_eq!(bits(&found.gradient), bits(&expected));
        }
    }
}
