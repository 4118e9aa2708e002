//! `krystal sphere calibrate`: what messages and additions cost, and what follows for many machines.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Args;
use krystal::grpo::lm::Ranks;
use krystal::spheres::collective::{Collective, InProcess};
use krystal::spheres::cost_model::{CostModel, Sample, calibrate};
use serde::Serialize;
use serde_json::json;

use super::forecast::ForecastOptions;
use crate::cli::Global;
use crate::distributed::Distributed;
use crate::failure::{one_line, usage};
use crate::terminal::Terminal;

/// Flags of `krystal sphere calibrate`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal sphere calibrate
      this machine: its ranks are threads, so the wire is its memory
  mpirun -n 4 krystal sphere calibrate --distributed mpi
      the wire between the ranks
  krystal sphere calibrate --samples samples.jsonl --machines 12,144,1728 --parameters 10000000 --compute-seconds 2.5

A sample is a line {\"kind\": \"send_receive\", \"machines\": 2, \"bytes\": 4096, \"seconds\": 3.1e-5}; kinds are send_receive (two
machines to each other), exchange (all-to-all) and add. Predictions are a model, not a measurement. With --json the line is
{\"measured\": .., \"fit\": {\"model\": {\"links\": [..], ..}, \"residuals\": [..], ..}, \"forecasts\": [..]}; its residuals hold the
samples.")]
pub(crate) struct Options {
    /// Measurements made elsewhere; without it they are made now
    #[arg(long, value_name = "FILE.jsonl")]
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<PathBuf>,
    /// mpi: measure between the ranks that mpirun has started; none: between threads
    #[arg(long, value_name = "HOW", default_value = "none", hide_possible_values = true, conflicts_with = "samples")]
    #[serde(skip_serializing_if = "Distributed::is_none")]
    pub(super) distributed: Distributed,
    #[command(flatten)]
    #[serde(flatten)]
    forecast: ForecastOptions,
}

/// Samples and where they come from.
struct Measured {
    what: String,
    samples: Vec<Sample>,
}

/// Powers of two of the numbers in a message, from 8 bytes to 24 MiB with what lies between them.
const POWERS: RangeInclusive<u32> = 1..=22;
/// Threads between which messages are timed.
const RANKS: RangeInclusive<usize> = 2..=12;

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal, ranks: &Ranks) -> anyhow::Result<()> {
    options.forecast.validate()?;
    let measured = match (&options.samples, options.distributed) {
        (Some(path), _) => Measured { what: path.display().to_string(), samples: read(path)? },
        (None, Distributed::Mpi) => between_ranks(terminal, ranks.collective())?,
        (None, Distributed::None) => between_threads(global, terminal)?,
    };
    let Measured { what, samples } = measured;
    // One rank speaks for all.
    if !ranks.is_first() {
        return Ok(());
    }
    let fit = CostModel::fit(&samples)?;
    let forecasts = options.forecast.forecasts(&fit.model);
    terminal.line(&format!("measured: {what}\n{fit}"));
    forecasts.iter().for_each(|forecast| terminal.line(&forecast.to_string()));
    terminal.json(&json!({ "measured": what, "fit": fit, "forecasts": forecasts }));
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<Sample>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let sample = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| anyhow!("{}:{}: no sample: {}", path.display(), index + 1, one_line(&error.to_string())))
    };
    lines.map(sample).collect()
}

/// Between threads, which exchange by copying.
fn between_threads(global: &Global, terminal: Terminal) -> anyhow::Result<Measured> {
    let ranks = global.threads.map_or_else(rayon::current_num_threads, std::num::NonZero::get);
    let ranks = ranks.clamp(*RANKS.start(), *RANKS.end());
    let mut progress = terminal.progress("measuring", 0);
    progress.set(0, "copies between threads");
    let samples = thread::scope(|scope| {
        let threads: Vec<_> =
            InProcess::group(ranks).into_iter().map(|rank| scope.spawn(move || measure(&rank))).collect();
        // All have the same samples, or the same error.
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a measuring thread died"))?);
        results.reduce(|first, next| next.and(first)).unwrap_or_else(|| Ok(Vec::new()))
    })?;
    let what = format!("{ranks} threads of this machine, so the wire is its memory: no network was measured");
    Ok(Measured { what, samples })
}

fn between_ranks(terminal: Terminal, ranks: &dyn Collective) -> anyhow::Result<Measured> {
    if ranks.size() < 2 {
        return Err(usage("--distributed mpi with one rank has no wire: start it by mpirun -n N"));
    }
    let mut progress = terminal.progress("measuring", 0);
    progress.set(0, "messages between ranks");
    Ok(Measured { what: format!("{} ranks under MPI", ranks.size()), samples: measure(ranks)? })
}

fn measure(collective: &dyn Collective) -> anyhow::Result<Vec<Sample>> {
    let lengths: Vec<usize> = POWERS.flat_map(|power| [1 << power, 3 << (power - 1)]).collect();
    let started = Instant::now();
    Ok(calibrate(collective, &mut || started.elapsed().as_secs_f64(), &lengths)?)
}
