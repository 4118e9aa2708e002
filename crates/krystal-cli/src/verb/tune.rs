//! `krystal tune`: settings by swarm.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use krystal::checkpoint::write_atomically;
use serde::Serialize;
use serde_json::json;
use toml::Table;

use crate::cli::Global;
use crate::failure::usage;
use crate::report;
use crate::terminal::{Terminal, error_line};
use crate::training::next_free;
use crate::tuning::{Best, CommandLine, Entry, LEDGER, Ledger, SPACE, Search, TrialRunner, Tuner};

/// Flags of `krystal tune`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal tune space.toml -- krystal train --model DIR --data FILE.jsonl --reward math
      the best held-out pass@1 after training, each dimension of the space a flag of krystal train
  krystal tune space.toml --trials 60 --jobs 2 -- ./experiment.sh {learning_rate} {budget}
      over any command that prints a number last
  krystal tune --resume runs/tune-1

A space, here with successive halving: every trial gets 10 steps, the best third of a generation 30, their best third 90:

  goal = \"maximize\"                # or minimize
  metric = \"eval_after.pass@1\"     # where the number is in the JSON object printed last; else the last number printed
  [budget]
  min = 10
  max = 90
  [space.learning_rate]
  min = 1e-5
  max = 1e-2
  log = true
  [space.num_generations]
  min = 4
  max = 16
  integer = true
  [space.loss_type]
  choices = [\"dapo\", \"dr_grpo\", \"cispo\"]
  [[start]]                        # tried first
  learning_rate = 1e-4
  num_generations = 8
  loss_type = \"dapo\"

In the command {NAME} is a dimension's value, {budget} the trial's budget, {dir} a folder of its own, {seed} and {trial} numbers. A
dimension without a place becomes a flag --NAME=VALUE, the budget --max-steps=N (budget.flag names another). krystal train and sft
get --json, --quiet, --seed, --threads and --run-dir too. Without a command it is krystal train, the demonstration.

The run directory holds space.toml, trials.jsonl, report.html and what each trial printed. The same seed and the same numbers give
the same search, whatever --jobs; a search that was stopped goes on from trials.jsonl.

With --json the line is {\"best\": {\"trial\": .., \"value\": .., \"budget\": .., \"settings\": {..}, \"command\": [..]}, \"trials\": .., \"failed\": ..,
\"seconds\": .., \"run_dir\": .., \"report\": ..}.")]
pub(crate) struct Options {
    /// What is searched
    #[arg(value_name = "SPACE.toml")]
    space: PathBuf,
    /// How many settings to try
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    trials: u64,
    /// How many commands run at a time [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<u64>,
    /// A trial that takes longer has failed [default: none does]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    time_limit: Option<f64>,
    /// Folder to write, which must not hold a search yet [default: runs/tune-N]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    run_dir: Option<PathBuf>,
    /// Go on with the search in this folder; flags given here win
    #[arg(long, value_name = "DIR", conflicts_with = "run_dir")]
    #[serde(skip)]
    resume: Option<PathBuf>,
    /// The command of a trial
    #[arg(last = true, value_name = "COMMAND")]
    #[serde(skip)]
    command: Vec<String>,
}

/// Whether everything is to end.
static STOP: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let started = Instant::now();
    let time_limit = options.time_limit.map(time_limit).transpose()?;
    let search = Search::read(&options.space)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.map_or(cores, |jobs| usize::try_from(jobs).unwrap_or(usize::MAX));
    let program = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
    let threads = global.threads.map_or((cores / jobs).max(1), usize::from);
    let command = CommandLine::new(&search, &options.command, program.as_deref().unwrap_or("krystal"), threads)?;
    let search = Search { command: command.words().to_vec(), metric: command.metric().map(str::to_owned), ..search };
    let run = options.open()?;
    options.write(&run, &search, global)?;
    listen()?;

    let runner = TrialRunner { command: &command, jobs, time_limit, stop: &STOP };
    let ledger = Ledger::open(run.join(LEDGER))?;
    let mut tuner = Tuner::new(&search, runner, ledger, &run, global.seed, options.trials)?;
    let mut progress = terminal.progress("tuning", usize::try_from(options.trials).unwrap_or(0));
    let (mut seen, mut best) = (0, None::<Entry>);
    let searched = tuner.run(|entry| {
        seen += usize::from(entry.rung == 0);
        let is_better = best.as_ref().is_none_or(|best| search.order(entry, best).is_lt());
        if let Some(value) = entry.outcome.value().filter(|_| is_better) {
            progress.line(&found(entry, value));
            best = Some(entry.clone());
        }
        let value = best.as_ref().and_then(|best| best.outcome.value());
        progress.set(seen, &value.map_or_else(String::new, |value| format!("best {value}")));
    });
    drop(progress);
    searched?;
    let report = if tuner.entries().is_empty() { None } else { Some(report::write(&run)?) };
    let seconds = started.elapsed().as_secs_f64();
    show(&tuner, &run, report.as_deref(), seconds, options.trials, terminal);
    Ok(())
}

/// A line about a trial that is better than all before.
fn found(entry: &Entry, value: f64) -> String {
    let budget = entry.budget.map_or_else(String::new, |budget| format!(" with {budget}"));
    let settings = entry.settings.iter().map(|(name, setting)| format!("{name} {setting}"));
    format!("trial {}{budget}: {value}  {}", entry.trial, settings.collect::<Vec<_>>().join(", "))
}

fn show(tuner: &Tuner<'_>, run: &Path, report: Option<&Path>, seconds: f64, n_trials: u64, terminal: Terminal) {
    let first_rung = || tuner.entries().iter().filter(|entry| entry.rung == 0);
    let failed = tuner.entries().iter().filter(|entry| entry.outcome.value().is_none()).count();
    let best = tuner.best();
    let names = best.iter().flat_map(|best| best.entry.settings.keys());
    let width = names.map(|name| name.chars().count() + 2).max().unwrap_or(0).max(16);
    let fact = |name: &str, text: &str| terminal.line(&format!("{name:width$} {text}"));
    if let Some(Best { entry, words }) = &best {
        let budget = entry.budget.map_or_else(String::new, |budget| format!(", with {budget}"));
        let value = entry.outcome.value().map_or_else(String::new, |value| value.to_string());
        fact("best", &format!("{value} (trial {}{budget})", entry.trial));
        for (name, setting) in &entry.settings {
            fact(&format!("  {name}"), &setting.to_string());
        }
        fact("command", &words.join(" "));
    }
    let failures = if failed == 0 { String::new() } else { format!(", {failed} runs failed") };
    fact("trials", &format!("{}{failures}", first_rung().count()));
    fact("time", &format!("{seconds:.1} s"));
    if let Some(report) = report {
        fact("report", &report.display().to_string());
    }
    if tuner.is_stopped() {
        let (n, run) = (first_rung().count(), run.display());
        fact("stopped", &format!("after {n} of {n_trials} trials; to go on: krystal tune --resume {run}"));
    }
    let best = best.map(|Best { entry, words }| {
        let value = entry.outcome.value();
        json!({
            "trial": entry.trial, "value": value, "budget": entry.budget, "settings": entry.settings, "command": words,
        })
    });
    terminal.json(&json!({
        "best": best,
        "trials": first_rung().count(),
        "failed": failed,
        "seconds": seconds,
        "run_dir": run,
        "report": report,
    }));
}

fn time_limit(seconds: f64) -> anyhow::Result<Duration> {
    let refused = || usage(format!("--time-limit must be a number of seconds above 0, not {seconds}"));
    Duration::try_from_secs_f64(seconds).ok().filter(|limit| !limit.is_zero()).ok_or_else(refused)
}

/// Makes Ctrl-C (and a request to terminate) kill the commands that run and end the search; a second one ends the process at once.
fn listen() -> anyhow::Result<()> {
    let heard = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        error_line("stopping; what has run is kept");
    });
    heard.context("cannot listen for requests to end, which would leave commands behind")
}

impl Options {
    /// The run's folder.
    fn open(&self) -> anyhow::Result<PathBuf> {
        let run = match (&self.resume, &self.run_dir) {
            (Some(run), _) => return Ok(run.clone()),
            (None, Some(run)) => run.clone(),
            (None, None) => next_free(Path::new("runs"), "tune"),
        };
        let folder = run.display();
        if run.join(LEDGER).exists() {
            return Err(usage(format!(
                "{folder}: there is a search already: go on with --resume {folder}, or name another --run-dir"
            )));
        }
        std::fs::create_dir_all(&run).with_context(|| format!("{folder}: cannot be made"))?;
        Ok(run)
    }

    /// Writes what was asked for, as options that ask for it again.
    fn write(&self, run: &Path, search: &Search, global: &Global) -> anyhow::Result<()> {
        let absolute = std::path::absolute(run).with_context(|| format!("{}: no absolute path", run.display()))?;
        let space = absolute.join(SPACE);
        let mut table = Table::try_from(self).context("the options cannot be written as TOML")?;
        table.extend(Table::try_from(global).context("the options cannot be written as TOML")?);
        table.insert("space".to_owned(), space.to_string_lossy().into_owned().into());
        let text = format!("# krystal tune --resume {}\n{}", run.display(), toml::to_string(&table)?);
        write_atomically(&run.join(SPACE), toml::to_string(search)?.as_bytes())?;
        Ok(write_atomically(&run.join("config.toml"), text.as_bytes())?)
    }
}
