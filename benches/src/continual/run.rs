//! One learner on one stream, measured.

use std::sync::Arc;

use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;

use super::base_model::Base;
use super::learner::{Learner, Method, PhaseData, Protocol, Setup, all_examples};
use super::settings::Settings;
use super::stream::{Stream, StreamKind};
use super::task::Example;
use crate::thread_cpu_seconds;

/// Examples kept for [`Learner::end_phase`].
const KEPT: usize = 256;

/// A method, its numbers, a stream and a seed.
#[derive(Debug, Clone)]
pub struct Job {
    /// The method.
    pub method: Method,
    /// The stream.
    pub kind: StreamKind,
    /// The seed of stream and learner.
    pub seed: u64,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// The method's own number.
    pub hyper: f64,
}

/// Accuracies at one moment; `None` for tests that were not taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Steps taken before it.
    pub step: usize,
    /// The phase it lies in, or ends.
    pub phase: usize,
    /// Accuracy of each test.
    pub accuracy: Vec<Option<f64>>,
}

/// What a run was like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// `matrix[i][j]`: accuracy of test `j` after phase `i`.
    pub matrix: Vec<Vec<f64>>,
    /// The tests' names.
    pub names: Vec<String>,
    /// The task of each phase.
    pub schedule: Vec<usize>,
    /// Measurements within phases, in order.
    pub trace: Vec<Point>,
    /// Mean over all steps of the loss before the step (nats).
    pub mean_loss: f64,
    /// What the learner noted.
    pub notes: Vec<(String, f64)>,
    /// Seconds of processor time in [`Learner::learn`].
    pub learn_s: f64,
    /// Seconds of the whole run.
    pub total_s: f64,
}

/// Runs a job.
///
/// # Errors
/// If the learner cannot be made.
pub fn run(base: &Base, job: &Job, settings: &Settings) -> anyhow::Result<Record> {
    let start = std::time::Instant::now();
    let stream = Stream::draw(job.kind, job.seed, settings);
    let rank = match job.kind {
        StreamKind::Agents => stack_rank(settings.rank, stream.n_agents()),
        _ => settings.rank,
    };
    let setup = Setup {
        kind: job.kind,
        seed: job.seed,
        learning_rate: job.learning_rate,
        hyper: job.hyper,
        n_agents: stream.n_agents(),
        rank,
        settings,
    };
    let mut learner = (job.method.make)(base, &setup)?;
    let mut record = Record {
        names: stream.tests.iter().map(|t| t.name.clone()).collect(),
        schedule: stream.phases.iter().map(|p| p.task).collect(),
        ..Record::default()
    };
    let (mut step, mut losses) = (0, 0.0);
    let mut seen = vec![false; stream.tests.len()];
    for (index, phase) in stream.phases.iter().enumerate() {
        if job.method.protocol == Protocol::Fresh && index > 0 {
            learner = (job.method.make)(base, &setup)?;
        }
        match (job.method.protocol, job.kind) {
            (Protocol::Stream, StreamKind::Agents) | (Protocol::Joint, _) => seen.fill(true),
            (Protocol::Stream, _) => seen[phase.task] = true,
            (Protocol::Fresh, _) => {
                seen.fill(false);
                seen[phase.task] = true;
            }
        }
        let mut kept: Vec<Example> = Vec::new();
        for within in 0..phase.steps {
            if within % settings.eval_every == 0 {
                let accuracy = measure(base, learner.as_ref(), &stream, &seen);
                record.trace.push(Point { step, phase: index, accuracy });
            }
            let batches = match job.method.protocol {
                Protocol::Joint => stream.joint_batches(step),
                _ => stream.batches(index, within),
            };
            if job.method.boundaries {
                kept.splice(0..0, all_examples(&batches).cloned());
                kept.truncate(KEPT);
            }
            let before = thread_cpu_seconds();
            losses += learner.learn(base, &batches);
            record.learn_s += thread_cpu_seconds() - before;
            step += 1;
        }
        if job.method.boundaries {
            let before = thread_cpu_seconds();
            learner.end_phase(base, &PhaseData { index, examples: &kept });
            record.learn_s += thread_cpu_seconds() - before;
        }
        let everything = vec![true; stream.tests.len()];
        let all = measure(base, learner.as_ref(), &stream, &everything);
        let visible = all.iter().zip(&seen).map(|(a, s)| a.filter(|_| *s)).collect();
        record.trace.push(Point { step, phase: index, accuracy: visible });
        record.matrix.push(all.into_iter().flatten().collect());
    }
    record.mean_loss = losses / step as f64;
    record.notes = learner.notes();
    record.total_s = start.elapsed().as_secs_f64();
    Ok(record)
}

/// The stack's private layers (three of its ranks in 31) for every agent, and its shared ones.
pub fn stack_rank(rank: usize, n_agents: usize) -> usize {
    let private = rank * 3 / 31;
    rank - private + n_agents * private
}

/// An adapter, a test's problems and the accuracy.
type Known<'a> = (Arc<LoraWeights<Cpu>>, &'a [Example], f64);

fn measure(base: &Base, learner: &dyn Learner, stream: &Stream, which: &[bool]) -> Vec<Option<f64>> {
    // Agents that share an adapter and a test's questions get the same answers.
    let mut known: Vec<Known<'_>> = Vec::new();
    let mut accuracies = Vec::with_capacity(stream.tests.len());
    for (test, wanted) in stream.tests.iter().zip(which) {
        if !wanted {
            accuracies.push(None);
            continue;
        }
        let weights = learner.weights(base, test.agent);
        let same = known.iter().find(|(w, examples, _)| Arc::ptr_eq(w, &weights) && *examples == test.examples);
        let accuracy = match same {
            Some((_, _, accuracy)) => *accuracy,
            None => base.accuracy(Some(&weights), &test.examples, &test.batch),
        };
        known.push((weights, &test.examples, accuracy));
        accuracies.push(Some(accuracy));
    }
    accuracies
}

/// Runs jobs on `threads` threads, each job on one, and returns their records in the order of the jobs.
///
/// # Errors
/// The first error of a job.
pub fn run_all(base: &Base, jobs: &[Job], settings: &Settings, threads: usize) -> anyhow::Result<Vec<Record>> {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<anyhow::Result<Record>>>> = Mutex::new((0..jobs.len()).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                // A pool of one thread: kernels within a job do not divide their work.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let result = match &pool {
                        Ok(pool) => pool.install(|| run(base, job, settings)),
                        Err(error) => Err(anyhow::anyhow!("no thread for a job: {error}")),
                    };
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_iter().map(|r| r.unwrap_or_else(|| Err(anyhow::anyhow!("a job was not run")))).collect()
}
