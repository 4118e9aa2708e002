//! Trials as processes, several at a time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::command_line::CommandLine;
use super::ledger::Outcome;
use super::metric;
use crate::failure::one_line;
use crate::process::{Ending, Process};

/// Most bytes of what a command printed that are looked at, from the end.
const TAIL: u64 = 1 << 20;

/// Runs commands.
#[derive(Debug)]
pub(crate) struct TrialRunner<'a> {
    pub(crate) command: &'a CommandLine,
    /// How many run at a time.
    pub(crate) jobs: usize,
    /// How long one may take.
    pub(crate) time_limit: Option<Duration>,
    /// Set where everything is to end.
    pub(crate) stop: &'a AtomicBool,
}

/// A command to run.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The command, its places filled.
    pub(crate) words: Vec<String>,
    /// Where its output goes, in files `stdout` and `stderr`.
    pub(crate) dir: PathBuf,
}

/// What became of one.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Which of the launches.
    pub(crate) index: usize,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
}

impl TrialRunner<'_> {
    /// Runs all of them; `each` is told of each as it ends. Those that have not ended when everything is to end are killed, and
    /// nothing is told of them.
    ///
    /// # Errors
    /// Where a command cannot be launched at all, or `each` fails.
    pub(crate) fn run(
        &self,
        launches: &[Launch],
        mut each: impl FnMut(Finished) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let next = AtomicUsize::new(0);
        let (sender, ends) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.jobs.min(launches.len()) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while !self.stop.load(Ordering::SeqCst)
                        && let index = next.fetch_add(1, Ordering::SeqCst)
                        && let Some(launch) = launches.get(index)
                    {
                        let started = Instant::now();
                        let ended = self.one(launch);
                        let seconds = started.elapsed().as_secs_f64();
                        let finished = ended.map(|outcome| outcome.map(|outcome| Finished { index, outcome, seconds }));
                        if sender.send(finished).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut failed = Ok(());
            for finished in ends {
                let told = finished.and_then(|finished| finished.map_or(Ok(()), &mut each));
                if failed.is_ok() && told.is_err() {
                    failed = told;
                    // The others would be run for nothing.
                    next.store(launches.len(), Ordering::SeqCst);
                }
            }
            failed
        })
    }

    /// Runs one to its end; `None` where it was killed because everything is to end.
    fn one(&self, launch: &Launch) -> anyhow::Result<Option<Outcome>> {
        let Launch { words, dir } = launch;
        let failed = |what: &Path| format!("{}: cannot write", what.display());
        if dir.exists() {
            // Of a run that was cut short.
            fs::remove_dir_all(dir).with_context(|| failed(dir))?;
        }
        fs::create_dir_all(dir).with_context(|| failed(dir))?;
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| dir.join(name));
        let into = |path: &Path| File::create(path).map(Stdio::from).with_context(|| failed(path));
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let process = Process::launch_into(&words, into(&stdout)?, into(&stderr)?);
        let mut process = process.with_context(|| format!("{}: cannot be started", words[0].display()))?;
        let started = Instant::now();
        let ending = loop {
            if let Some(ending) = process.poll()? {
                break ending;
            }
            if self.stop.load(Ordering::SeqCst) {
                process.stop()?;
                return Ok(None);
            }
            if let Some(limit) = self.time_limit.filter(|limit| started.elapsed() >= *limit) {
                process.stop()?;
                return Ok(Some(Outcome::Failure(format!("took longer than {} s", limit.as_secs_f64()))));
            }
        };
        if self.stop.load(Ordering::SeqCst) && ending != Ending::Exit(0) {
            // The terminal's Ctrl-C may have reached it as well.
            return Ok(None);
        }
        if ending != Ending::Exit(0) {
            let last = tail(&stderr)?.lines().rfind(|line| !line.trim().is_empty()).map_or_else(String::new, one_line);
            let reason = if last.is_empty() { ending.to_string() } else { format!("{ending}: {last}") };
            return Ok(Some(Outcome::Failure(reason)));
        }
        let read = metric::read(&tail(&stdout)?, self.command.metric());
        Ok(Some(read.map_or_else(Outcome::Failure, Outcome::Value)))
    }
}

/// The end of a file as text.
fn tail(path: &Path) -> anyhow::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("{}: cannot read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Why most of those that failed did; of reasons as frequent, the first by the alphabet.
pub(crate) fn commonest_reason<'o>(outcomes: impl Iterator<Item = &'o Outcome>) -> Option<&'o str> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        if let Outcome::Failure(reason) = outcome {
            *counts.entry(reason.as_str()).or_insert(0) += 1;
        }
    }
    counts.into_iter().rev().max_by_key(|(_, n)| *n).map(|(reason, _)| reason)
}
