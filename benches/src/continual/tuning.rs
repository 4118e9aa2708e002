//! Learning rates and the methods' own numbers, chosen on a seed that no result uses.

use super::base_model::Base;
use super::learner::Method;
use super::metrics::Metrics;
use super::run::{Job, run_all};
use super::settings::Settings;
use super::stream::StreamKind;

/// The seed of tuning; results use the seeds from 1 on.
pub const TUNING_SEED: u64 = 1001;
/// Learning rates that are tried.
pub const RATES: [f64; 4] = [5e-4, 1e-3, 2e-3, 4e-3];

/// A choice for a method on a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// The method's own number, 0 where it has none.
    pub hyper: f64,
    /// ACC on the tuning seed; of the recorded choices as it was when they were recorded.
    pub acc: f64,
}

/// Tries every learning rate with every value of the method's own number and keeps what has the highest ACC (the lower rate of
/// equal ones), for each method and stream.
///
/// # Errors
/// As [`run_all`].
pub fn tune(
    base: &Base,
    pairs: &[(Method, StreamKind)],
    settings: &Settings,
    threads: usize,
) -> anyhow::Result<Vec<Choice>> {
    let mut jobs = Vec::new();
    let mut owners = Vec::new();
    for (owner, (method, kind)) in pairs.iter().enumerate() {
        for learning_rate in RATES {
            for hyper in method.hyper.map_or(&[0.0][..], |(_, values)| values) {
                jobs.push(Job { method: *method, kind: *kind, seed: TUNING_SEED, learning_rate, hyper: *hyper });
                owners.push(owner);
            }
        }
    }
    let records = run_all(base, &jobs, settings, threads)?;
    let mut best: Vec<Option<Choice>> = vec![None; pairs.len()];
    for ((job, record), owner) in jobs.iter().zip(&records).zip(owners) {
        let acc = match job.method.protocol {
            // A fresh adapter is there to learn its phase.
            super::learner::Protocol::Fresh => Metrics::of(job.kind, record).learned.unwrap_or(f64::NAN),
            _ => Metrics::of(job.kind, record).acc,
        };
        if best[owner].is_none_or(|choice| acc > choice.acc) {
            best[owner] = Some(Choice { learning_rate: job.learning_rate, hyper: job.hyper, acc });
        }
    }
    Ok(best.into_iter().flatten().collect())
}

/// What `--tune` chose, for the sizes of [`Settings::default`]: method, stream, learning rate, own number.
const RECORDED: &[(&str, &str, f64, f64)] = &[];

/// The recorded choice; for a method or stream that was never tuned, a middle rate and its first own number.
pub fn recorded(method: &Method, kind: StreamKind) -> Choice {
    let row = RECORDED.iter().find(|(name, stream, ..)| *name == method.tuned_as && *stream == kind.name());
    let first = method.hyper.map_or(0.0, |(_, values)| values[0]);
    let (learning_rate, hyper) = row.map_or((2e-3, first), |(_, _, rate, hyper)| (*rate, *hyper));
    Choice { learning_rate, hyper, acc: f64::NAN }
}
