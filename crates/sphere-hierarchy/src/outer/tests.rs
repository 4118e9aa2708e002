use super::*;
use crate::collective::on_each;
use crate::collective::{InProcess, Local};

const INT8: OuterExchange = OuterExchange::Int8 { error_feedback: true };

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Values that look like chance.
fn noise(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7 + seed * 13) as f32 * 12.989_8).sin()).collect()
}

/// Outer steps of ranks that move by [`noise`]; the parameters at the end, by rank.
fn train(config: OuterConfig, n_ranks: usize, count: usize, n_steps: usize) -> Vec<Vec<f32>> {
    on_each(n_ranks, |rank| {
        let mut parameters = noise(99, count);
        let mut outer = OuterOptimizer::new(config, &parameters).unwrap();
        for step in 0..n_steps {
            let moved = noise(step * 10 + rank.rank(), count);
            parameters.iter_mut().zip(moved).for_each(|(parameter, moved)| *parameter += 0.1 * moved);
            outer.step(&rank, &mut parameters).unwrap();
            assert_eq!(outer.anchor(), parameters);
        }
        parameters
    })
}

#[test]
fn averaging_one_rank_changes_nothing() {
    let mut outer = OuterOptimizer::new(OuterConfig::averaging(), &noise(1, 1_000)).unwrap();
    let trained: Vec<f32> = noise(2, 1_000).iter().map(|value| value * 1e-20).collect();
    let mut parameters = trained.clone();
    let step = outer.step(&Local, &mut parameters).unwrap();
    assert_eq!(bits(&parameters), bits(&trained));
    assert_eq!((step.bytes_received, outer.n_steps()), (0, 1));
}

#[test]
fn it_is_the_nesterov_momentum_of_torch() {
    // torch.optim.SGD(lr=0.7, momentum=0.9, nesterov=True) in float64, given the pseudo-gradient of two ranks that move parameter
    // i of anchor a to 0.9 a + 0.01 (step + i) and 0.7 a - 0.02 step.
    let expected = [
        [0.734, -1.46135, 0.3803],
        [0.418706, -0.8429959, 0.2347602],
        [0.105899604, -0.253020401, 0.086095967],
        [-0.164688491, 0.228893492, -0.047673585],
    ];
    let results = on_each(2, |rank| {
        let mut parameters = vec![1.0, -2.0, 0.5];
        let mut outer = OuterOptimizer::new(OuterConfig::default(), &parameters).unwrap();
        for (step, expected) in expected.iter().enumerate() {
            for (index, parameter) in parameters.iter_mut().enumerate() {
                *parameter = match rank.rank() {
                    0 => 0.9 * *parameter + 0.01 * (step + index) as f32,
                    _ => 0.7 * *parameter - 0.02 * step as f32,
                };
            }
            outer.step(&rank, &mut parameters).unwrap();
            for (found, expected) in parameters.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "step {step}: {found} {expected}");
            }
        }
    });
    assert_eq!(results.len(), 2);
}

#[test]
fn ranks_end_with_the_same_bits_and_those_of_the_definition() {
    let (count, n_steps) = (1_003, 5);
    for n_ranks in [1, 2, 3, 4, 7] {
        let found = train(OuterConfig::default(), n_ranks, count, n_steps);
        let (mut anchor, mut velocity) = (noise(99, count), vec![0.0_f32; count]);
        for step in 0..n_steps {
            let moved: Vec<_> = (0..n_ranks).map(|rank| noise(step * 10 + rank, count)).collect();
            for index in 0..count {
                let of_rank = |rank: usize| f64::from(anchor[index] + 0.1 * moved[rank][index]);
                let mean = f64::from(((0..n_ranks).map(of_rank).sum::<f64>() / n_ranks as f64) as f32);
                velocity[index] = (0.9 * f64::from(velocity[index]) + (f64::from(anchor[index]) - mean)) as f32;
                let plain = (1.0 - 0.7) * f64::from(anchor[index]) + 0.7 * mean;
                anchor[index] = (plain - 0.7 * 0.9 * f64::from(velocity[index])) as f32;
            }
        }
        for parameters in &found {
            assert_eq!(bits(parameters), bits(&anchor), "{n_ranks} ranks");
        }
        let rounded = train(OuterConfig::default().with_exchange(INT8), n_ranks, count, n_steps);
        for parameters in &rounded {
            assert_eq!(bits(parameters), bits(&rounded[0]), "{n_ranks} ranks");
            assert!(parameters.iter().zip(&anchor).all(|(rounded, exact)| (rounded - exact).abs() < 0.02));
        }
    }
}

/// Ranks of least squares, `sum_i c_ri (x_i - t_ri)^2 / 2` for rank `r`, and the loss of all.
fn curvature(rank: usize, index: usize) -> f64 {
    0.3 + 0.05 * ((rank + index) % 3) as f64
}

fn target(rank: usize, index: usize) -> f64 {
    (index as f64).sin() + 0.3 * ((rank * 5 + index) as f64).cos()
}

fn descend(rank: usize, parameters: &mut [f32], learning_rate: f64) {
    for (index, parameter) in parameters.iter_mut().enumerate() {
        let gradient = curvature(rank, index) * (f64::from(*parameter) - target(rank, index));
        *parameter -= (learning_rate * gradient) as f32;
    }
}

fn loss(parameters: &[f32]) -> f64 {
    let of_rank = |rank: usize| {
        let terms = parameters.iter().enumerate();
        terms.map(move |(i, x)| curvature(rank, i) * (f64::from(*x) - target(rank, i)).powi(2) / 2.0).sum::<f64>()
    };
    (0..4).map(of_rank).sum::<f64>() / 4.0
}

#[test]
fn four_ranks_that_seldom_meet_come_where_synchronous_descent_comes() {
    const COUNT: usize = 300;
    let mut synchronous = vec![5.0_f32; COUNT];
    for _ in 0..500 {
        let before = synchronous.clone();
        let mut moves = vec![0.0; COUNT];
        for rank in 0..4 {
            let mut moved = before.clone();
            descend(rank, &mut moved, 0.1);
            moves.iter_mut().zip(&moved).zip(&before).for_each(|((sum, to), from)| *sum += (to - from) / 4.0);
        }
        synchronous.iter_mut().zip(moves).for_each(|(x, moved)| *x += moved);
    }
    let diverse = |exchange| {
        let results = on_each(4, |rank| {
            let mut parameters = vec![5.0_f32; COUNT];
            let config = OuterConfig::default().with_exchange(exchange);
            let mut outer = OuterOptimizer::new(config, &parameters).unwrap();
            for _ in 0..50 {
                (0..10).for_each(|_| descend(rank.rank(), &mut parameters, 0.1));
                outer.step(&rank, &mut parameters).unwrap();
            }
            parameters
        });
        loss(&results[0])
    };
    let (start, best) = (loss(&[5.0; COUNT]), loss(&synchronous));
    for exchange in [OuterExchange::F32, INT8] {
        let found = diverse(exchange);
        // Ranks of different curvature pull their common point aside a little: that much local steps cost.
        assert!(found - best < 1e-4 * (start - best), "{exchange:?}: from {start}, {found} beside {best}");
    }
}

#[test]
fn feedback_saves_the_small_beside_the_large() {
    // Two ranks pull parameter 0 apart by 1 and all others together towards 0.03, by a tenth of the way: less than what eight
    // bits can tell beside 1.
    let distance = |error_feedback: bool| {
        let results = on_each(2, |rank| {
            let mut parameters = vec![0.0_f32; 256];
            let config = OuterConfig::averaging().with_exchange(OuterExchange::Int8 { error_feedback });
            let mut outer = OuterOptimizer::new(config, &parameters).unwrap();
            for _ in 0..100 {
                parameters[0] += if rank.rank() == 0 { 1.0 } else { -1.0 };
                parameters[1..].iter_mut().for_each(|parameter| *parameter += 0.1 * (0.03 - *parameter));
                outer.step(&rank, &mut parameters).unwrap();
            }
            parameters
        });
        results[0][1..].iter().map(|parameter| (parameter - 0.03).abs()).fold(0.0, f32::max)
    };
    assert_eq!(distance(false), 0.03, "without feedback nothing should have moved");
    assert!(distance(true) < 0.01, "{}", distance(true));
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    for exchange in [OuterExchange::F32, INT8, OuterExchange::Int8 { error_feedback: false }] {
        let results = on_each(3, |rank| {
            let run = |interrupted: bool| {
                let mut parameters = noise(0, 700);
                let config = OuterConfig::default().with_exchange(exchange);
                let mut outer = OuterOptimizer::new(config, &parameters).unwrap();
                for step in 0..6 {
                    let moved = noise(step * 10 + rank.rank(), 700);
                    parameters.iter_mut().zip(moved).for_each(|(parameter, moved)| *parameter += 0.1 * moved);
                    outer.step(&rank, &mut parameters).unwrap();
                    if interrupted {
                        let saved = serde_json::to_string(&outer).unwrap();
                        outer = serde_json::from_str(&saved).unwrap();
                    }
                }
                (bits(&parameters), outer)
            };
            (run(false), run(true))
        });
        for (uninterrupted, resumed) in results {
            assert_eq!(uninterrupted, resumed, "{exchange:?}");
        }
    }
}

#[test]
fn bytes_are_counted() {
    let count = 256 * 12;
    for n_ranks in [1, 2, 3, 4] {
        for (exchange, in_exchange) in [(OuterExchange::F32, 4 * count), (INT8, count + count / 256 * 4)] {
            let config = OuterConfig::default().with_exchange(exchange);
            let steps = on_each(n_ranks, |rank| {
                let mut parameters = noise(rank.rank(), count);
                OuterOptimizer::new(config, &noise(0, count)).unwrap().step(&rank, &mut parameters).unwrap()
            });
            for step in steps {
                // Both ways all but a rank's own, and four numbers of each other rank.
                let agreed = 32 * (n_ranks - 1);
                assert_eq!(step.bytes_received as usize, 2 * (n_ranks - 1) * in_exchange / n_ranks + agreed);
                assert_eq!(step.bytes_received_f32 as usize, 2 * (n_ranks - 1) * 4 * count / n_ranks);
            }
        }
    }
}

/// The errors of all ranks of one outer step, before which `spoil` has its way; the state must be as before.
fn refused(n_ranks: usize, spoil: impl Fn(usize, &mut OuterOptimizer, &mut Vec<f32>) + Sync) -> Vec<String> {
    let step = |rank: InProcess| {
        let mut parameters = vec![1.0; 10];
        let mut outer = OuterOptimizer::new(OuterConfig::default(), &parameters).unwrap();
        spoil(rank.rank(), &mut outer, &mut parameters);
        let before = (outer.clone(), bits(&parameters));
        let error = outer.step(&rank, &mut parameters).unwrap_err();
        assert_eq!(before, (outer, bits(&parameters)));
        error.to_string()
    };
    on_each(n_ranks, step)
}

#[test]
fn what_is_not_finite_is_refused_by_all() {
    for (value, exchange) in [(f32::NAN, OuterExchange::F32), (f32::INFINITY, INT8)] {
        let errors = refused(3, |rank, outer, parameters| {
            outer.config.exchange = exchange;
            if rank == 1 {
                parameters[7] = value;
            }
        });
        assert_eq!(errors, ["parameter 7 of rank 1 is not finite"; 3]);
    }
    let errors = refused(2, |_, outer, parameters| {
        outer.config.learning_rate = 1e30;
        parameters[3] = 1e30;
    });
    assert_eq!(errors, ["the outer step would take parameter 3 beyond the largest f32"; 2]);
}

#[test]
fn ranks_that_differ_are_refused_by_all() {
    type Spoil = fn(usize, &mut OuterOptimizer, &mut Vec<f32>);
    let cases: [(Spoil, &str); 5] = [
        (
            |rank, _, parameters| parameters.truncate(10 - rank / 2),
            "rank 2 has another number of parameters than rank 0",
        ),
        (|rank, outer, _| outer.n_steps += rank as u64, "rank 1 has another number of outer steps than rank 0"),
        (|rank, outer, _| outer.anchor[0] += rank as f32, "rank 1 has another outer state than rank 0"),
        (|rank, outer, _| outer.config.momentum -= 0.1 * rank as f64, "rank 1 has another outer state than rank 0"),
        (|_, _, parameters| parameters.truncate(9), "expected 10 parameters, got 9"),
    ];
    for (spoil, expected) in cases {
        assert_eq!(refused(3, spoil), [expected; 3]);
    }
    let errors = refused(3, |_, outer, _| {
        outer.config.exchange = INT8;
        outer.feedback = Some(Feedback { n_ranks: 4, movement: vec![0.0; 10], mean: vec![0.0; 3] });
    });
    assert_eq!(errors, ["expected 4 ranks, got 3"; 3]);
}

#[test]
fn settings_and_states_that_make_no_sense_are_refused() {
    for (config, expected) in [
        (OuterConfig::default().with_learning_rate(0.0), "learning_rate must be a number above 0, got 0"),
        (OuterConfig::default().with_learning_rate(f64::NAN), "learning_rate must be a number above 0, got NaN"),
        (OuterConfig::default().with_momentum(1.0), "momentum must be a number from 0 to below 1, got 1"),
    ] {
        assert_eq!(OuterOptimizer::new(config, &[]).unwrap_err().to_string(), expected);
    }
    let outer = OuterOptimizer::new(OuterConfig::default(), &[1.0, 2.0]).unwrap();
    let mut saved = serde_json::to_value(&outer).unwrap();
    assert_eq!(serde_json::from_value::<OuterOptimizer>(saved.clone()).unwrap(), outer);
    saved["velocity"] = serde_json::json!([0.0]);
    let error = serde_json::from_value::<OuterOptimizer>(saved).unwrap_err().to_string();
    assert_eq!(error, "expected 2 velocities, got 1");
}
