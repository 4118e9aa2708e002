//! Stop, save, load, go on: the same bits as without the stop.

use krystal_checkpoint::{from_bytes, to_bytes};
use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{
    ActionValues, ActionValuesConfig, Active, NStepConfig, NStepTd, Next, Real, Sparse, StepSize, Td, TdBatch,
    TdConfig, TdLambda, TdLambdaConfig, Tdc, TdcConfig, TrueOnlineTd, TrueOnlineTdConfig,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// 200 steps, with and without a stop after each hundredth-and-odd one.
fn check<L>(name: &str, new: impl Fn() -> L, step: impl Fn(&mut L, &mut SplitMix64, usize))
where
    L: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let run = |stops: &[usize]| {
        let mut learner = new();
        let mut rng = SplitMix64::stream(12, Purpose::Simulation, 0, 0);
        for t in 0..200 {
            if stops.contains(&t) {
                learner = from_bytes(&to_bytes("learner", 1, &learner).unwrap(), "learner", 1).unwrap();
            }
            step(&mut learner, &mut rng, t);
        }
        // Equal numbers could still differ in sign of zero; equal bytes cannot.
        to_bytes("learner", 1, &learner).unwrap()
    };
    let uninterrupted = run(&[]);
    assert_eq!(run(&[1, 77, 150]), uninterrupted, "{name}");
    assert_ne!(to_bytes("learner", 1, &new()).unwrap(), uninterrupted, "{name} learned nothing");
}

const DIM: usize = 9;

fn dense<R: Real>(rng: &mut SplitMix64) -> [R; DIM] {
    std::array::from_fn(|_| R::from_f64(rng.normal()))
}

fn follows<S>(t: usize, next: S) -> Next<S> {
    match t % 23 {
        22 => Next::Terminated,
        11 => Next::Truncated(next),
        _ => Next::Continues(next),
    }
}

const RULES: [StepSize; 5] = [
    StepSize::Fixed(0.05),
    StepSize::RobbinsMonro { alpha: 0.1, half_life: 50.0, power: 0.75 },
    StepSize::Normalised { alpha: 0.3, epsilon: 1e-6 },
    StepSize::Nag { eta: 0.3 },
    StepSize::Autostep { alpha: 0.01, meta: 0.01, tau: 1e4 },
];

#[test]
fn prediction() {
    for step_size in RULES {
        check(
            "TD(0)",
            || Td::<f32>::new(DIM, TdConfig { gamma: 0.9, step_size }).unwrap(),
            |td, rng, t| {
                td.update(&dense(rng), draw(rng), follows(t, &dense(rng))).unwrap();
            },
        );
        if !matches!(step_size, StepSize::Autostep { .. }) {
            let config = TdLambdaConfig { gamma: 0.9, lambda: 0.8, step_size, ..Default::default() };
            check(
                "TD(lambda)",
                || TdLambda::<f64>::new(DIM, config).unwrap(),
                |td, rng, t| {
                    td.update(&dense(rng), rng.normal(), follows(t, &dense(rng))).unwrap();
                },
            );
            check(
                "TD(lambda), sparse",
                || TdLambda::<f64>::new(DIM, config).unwrap(),
                |td, rng, t| {
                    let (here, there, values) = ([rng.below(4) as u32, 5], [rng.below(9) as u32, 5], [0.5, -2.0]);
                    let (x, next) = (Sparse::new(&here, &values).unwrap(), Sparse::new(&there, &values).unwrap());
                    td.update(&x, rng.normal(), follows(t, &next)).unwrap();
                },
            );
        }
    }
    for step_size in &RULES[..3] {
        let step_size = *step_size;
        check(
            "true online",
            || TrueOnlineTd::<f64>::new(DIM, TrueOnlineTdConfig { gamma: 0.9, lambda: 0.8, step_size }).unwrap(),
            |td, rng, t| {
                td.update(&dense(rng), rng.normal(), follows(t, &dense(rng))).unwrap();
            },
        );
        check(
            "n steps",
            || NStepTd::<f64>::new(DIM, NStepConfig { n: 5, gamma: 0.9, step_size }).unwrap(),
            |td, rng, t| {
                td.update(&dense(rng), rng.normal(), follows(t, &dense(rng))).unwrap();
            },
        );
        check(
            "TDC",
            || Tdc::<f64>::new(DIM, TdcConfig { gamma: 0.9, step_size, ..Default::default() }).unwrap(),
            |td, rng, t| {
                td.update(&dense(rng), rng.normal(), follows(t, &dense(rng)), rng.uniform()).unwrap();
            },
        );
    }
    check(
        "batch",
        || TdBatch::<f32>::new(20, 2, TdConfig::default()).unwrap(),
        |batch, rng, _| {
            let x: Vec<f32> = (0..64).map(|_| draw(rng)).collect();
            batch.update(&x, &x[..32], &x, &[0.9; 32]).unwrap();
        },
    );
}

fn draw(rng: &mut SplitMix64) -> f32 {
    rng.normal() as f32
}

#[test]
fn control() {
    for (lambda, step_size) in [(0.0, RULES[4]), (0.0, RULES[1]), (0.8, RULES[0]), (0.8, RULES[3])] {
        let new = || {
            let config = ActionValuesConfig { gamma: 0.9, lambda, step_size, ..Default::default() };
            ActionValues::<f64>::new(DIM, 3, config).unwrap()
        };
        check("SARSA", new, |q, rng, t| {
            let action = rng.below(3) as usize;
            q.sarsa(&dense(rng), action, rng.normal(), follows(t, (&dense(rng), 1))).unwrap();
        });
        check("Expected SARSA", new, |q, rng, t| {
            let next: [f64; DIM] = dense(rng);
            q.expected_sarsa(&dense(rng), 2, rng.normal(), follows(t, (&next, &[0.5, 0.25, 0.25][..]))).unwrap();
        });
        check("Q-learning", new, |q, rng, t| {
            let (here, there) = ([rng.below(9) as u32], [rng.below(9) as u32]);
            let action = rng.below(3) as usize;
            q.q_learning(&Active(&here), action, rng.normal(), follows(t, &Active(&there))).unwrap();
        });
        if !matches!(step_size, StepSize::Nag { .. } | StepSize::Autostep { .. }) {
            check("true online SARSA", new, |q, rng, t| {
                let action = rng.below(3) as usize;
                q.true_online_sarsa(&dense(rng), action, rng.normal(), follows(t, (&dense(rng), 1))).unwrap();
            });
        }
    }
}

#[test]
fn replay() {
    use krystal_rl::{Batch, PrioritizedConfig, PrioritizedReplay, Transition};

    check(
        "prioritised replay",
        || PrioritizedReplay::<f32>::new(DIM, 40, PrioritizedConfig::default()).unwrap(),
        |replay, rng, t| {
            let (x, next) = (dense::<f32>(rng), dense::<f32>(rng));
            replay.push(&Transition { x: &x, action: t % 3, reward: draw(rng), next: follows(t, &next[..]) }).unwrap();
            let mut batch = Batch::default();
            replay.sample(5, rng, &mut batch).unwrap();
            let errors: Vec<f32> = (0..5).map(|_| draw(rng)).collect();
            replay.update(&batch.indices, &errors).unwrap();
        },
    );
    check(
        "PID",
        || krystal_rl::Pid::new(krystal_rl::PidConfig { derivative_filter: 0.3, ..Default::default() }).unwrap(),
        |pid, rng, _| {
            pid.update(1.0, rng.normal(), 0.1).unwrap();
        },
    );
}
