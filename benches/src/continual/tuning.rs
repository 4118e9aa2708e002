//! Learning rates and the methods' own numbers, chosen on seeds that no result uses.

use super::base_model::Base;
use super::learner::{Method, Protocol};
use super::metrics::{Metrics, mean};
use super::run::{Job, run_all};
use super::settings::Settings;
use super::stream::StreamKind;

/// The seeds of tuning; results use the seeds from 1 on. One alone would choose what happened to suit it.
pub const TUNING_SEEDS: [u64; 3] = [1001, 1002, 1003];
/// Learning rates that are tried.
pub const RATES: [f64; 6] = [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3];

/// A choice for a method on a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// The method's own number, 0 where it has none.
    pub hyper: f64,
    /// Mean ACC on the tuning seeds; of the recorded choices as it was when they were recorded.
    pub acc: f64,
}

/// Chooses for each method and stream: first the learning rate, with the middle one of the method's own numbers, then the own
/// number at that rate, each by the highest mean ACC (a fresh adapter: by how well it learns), the first of equal ones.
///
/// # Errors
/// As [`run_all`].
pub fn tune(
    base: &Base,
    pairs: &[(Method, StreamKind)],
    settings: &Settings,
    threads: usize,
) -> anyhow::Result<Vec<Choice>> {
    let values = |method: &Method| method.hyper.map_or(&[0.0][..], |(_, values)| values);
    let rates: Vec<Vec<(f64, f64)>> = pairs
        .iter()
        .map(|(method, _)| {
            let values = values(method);
            RATES.iter().map(|rate| (*rate, values[values.len() / 2])).collect()
        })
        .collect();
    let best = best_of(base, pairs, &rates, settings, threads)?;
    let numbers: Vec<Vec<(f64, f64)>> = pairs
        .iter()
        .zip(&best)
        .map(|((method, _), choice)| {
            let others = values(method).iter().filter(|hyper| **hyper != choice.hyper);
            others.map(|hyper| (choice.learning_rate, *hyper)).collect()
        })
        .collect();
    let others = best_of(base, pairs, &numbers, settings, threads)?;
    Ok(best.into_iter().zip(others).map(|(one, other)| if other.acc > one.acc { other } else { one }).collect())
}

/// Runs every pair with its candidates `(learning rate, own number)` and returns the best of each.
fn best_of(
    base: &Base,
    pairs: &[(Method, StreamKind)],
    candidates: &[Vec<(f64, f64)>],
    settings: &Settings,
    threads: usize,
) -> anyhow::Result<Vec<Choice>> {
    let mut jobs = Vec::new();
    let mut owners = Vec::new();
    for (owner, ((method, kind), candidates)) in pairs.iter().zip(candidates).enumerate() {
        for (learning_rate, hyper) in candidates.iter().copied() {
            jobs.extend(TUNING_SEEDS.map(|seed| Job { method: *method, kind: *kind, seed, learning_rate, hyper }));
            owners.push(owner);
        }
    }
    let records = run_all(base, &jobs, settings, threads)?;
    let mut best = vec![Choice { learning_rate: RATES[0], hyper: 0.0, acc: f64::NEG_INFINITY }; pairs.len()];
    let groups = jobs.chunks(TUNING_SEEDS.len()).zip(records.chunks(TUNING_SEEDS.len()));
    for ((jobs, records), owner) in groups.zip(owners) {
        let job = &jobs[0];
        let acc = mean(records.iter().map(|record| {
            let metrics = Metrics::of(job.kind, record);
            match job.method.protocol {
                Protocol::Fresh => metrics.learned.unwrap_or(metrics.acc),
                Protocol::Stream | Protocol::Joint => metrics.acc,
            }
        }));
        if acc > best[owner].acc {
            best[owner] = Choice { learning_rate: job.learning_rate, hyper: job.hyper, acc };
        }
    }
    Ok(best)
}

/// What `--tune` chose, for the sizes of [`Settings::default`]: method, stream, learning rate, own number. `dynamic`, the choices for
/// `formal` and `strings`, and rates on `agents` and of `olora` and `ewc` on `recurring` with all three seeds; the others, whose
/// runs differ less, with the first alone.
const RECORDED: &[(&str, &str, f64, f64)] = &[
    ("sequential", "arith", 5e-4, 0.0),
    ("joint", "arith", 1e-3, 0.0),
    ("fresh", "arith", 2e-3, 0.0),
    ("ewc", "arith", 1e-3, 1.0),
    ("olora", "arith", 2e-3, 0.03),
    ("ema2", "arith", 1e-3, 0.05),
    ("ema2-free", "arith", 5e-4, 0.02),
    ("replay", "arith", 1e-3, 0.02),
    ("sequential", "formal", 2.5e-4, 0.0),
    ("joint", "formal", 5e-4, 0.0),
    ("fresh", "formal", 2e-3, 0.0),
    ("ewc", "formal", 2e-3, 10.0),
    ("olora", "formal", 1e-3, 0.03),
    ("ema2", "formal", 1e-3, 0.05),
    ("ema2-free", "formal", 5e-4, 0.02),
    ("replay", "formal", 1e-3, 0.02),
    ("sequential", "recall", 5e-4, 0.0),
    ("joint", "recall", 5e-4, 0.0),
    ("fresh", "recall", 1e-3, 0.0),
    ("ewc", "recall", 5e-4, 0.1),
    ("olora", "recall", 4e-3, 0.03),
    ("ema2", "recall", 5e-4, 0.05),
    ("ema2-free", "recall", 5e-4, 0.02),
    ("replay", "recall", 5e-4, 0.02),
    ("sequential", "strings", 5e-4, 0.0),
    ("joint", "strings", 2.5e-4, 0.0),
    ("fresh", "strings", 5e-4, 0.0),
    ("ewc", "strings", 1e-3, 1.0),
    ("olora", "strings", 1e-3, 0.03),
    ("ema2", "strings", 2e-3, 0.05),
    ("ema2-free", "strings", 5e-4, 0.02),
    ("replay", "strings", 1e-3, 0.02),
    ("sequential", "recurring", 1e-3, 0.0),
    ("joint", "recurring", 2e-3, 0.0),
    ("ewc", "recurring", 2e-3, 1.0),
    ("olora", "recurring", 4e-3, 0.03),
    ("ema2", "recurring", 2e-3, 0.1),
    ("ema2-free", "recurring", 1e-3, 0.1),
    ("replay", "recurring", 1e-3, 0.02),
    ("sequential", "agents", 2e-3, 0.0),
    ("ema2", "agents", 4e-3, 0.1),
    ("ema2-free", "agents", 4e-3, 0.1),
    ("private", "agents", 8e-3, 0.0),
    ("dynamic", "arith", 2e-3, 0.0),
    ("dynamic", "formal", 4e-3, 0.0),
    ("dynamic", "recall", 4e-3, 0.0),
    ("dynamic", "strings", 2e-3, 0.0),
    ("dynamic", "recurring", 4e-3, 0.0),
    ("dynamic", "agents", 8e-3, 0.0),
];

/// The recorded choice; for a method or stream that was never tuned, a middle rate and its first own number.
pub fn recorded(method: &Method, kind: StreamKind) -> Choice {
    let row = RECORDED.iter().find(|(name, stream, ..)| *name == method.tuned_as && *stream == kind.name());
    let first = method.hyper.map_or(0.0, |(_, values)| values[0]);
    let (learning_rate, hyper) = row.map_or((2e-3, first), |(_, _, rate, hyper)| (*rate, *hyper));
    Choice { learning_rate, hyper, acc: f64::NAN }
}
