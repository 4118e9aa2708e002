//! The workload of `grpo` on one thread and on two: how much sooner it is done, and that it does exactly the same.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::Parser;
use grpo_trainer::strip_timing;
use krystal_benches::{ChildArguments, Options, Report, Size, Table, TrainingRun, median};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    child: ChildArguments,
}

fn main() -> anyhow::Result<()> {
    let Arguments { options, child } = Arguments::parse();
    if child.run()? {
        return Ok(());
    }
    let rounds = if options.quick { 1 } else { 3 };
    let mut report = Report::default();
    let mut table = Table::new(["workload", "1 thread, s", "2 threads, s", "speed-up", "CPU time, 2 / 1"]);
    for size in Size::ALL {
        for prompts in [1, 4] {
            let steps = (size.steps / prompts as u64 / if options.quick { 5 } else { 1 }).max(1);
            let mut wall = [Vec::new(), Vec::new()];
            let mut cpu = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                let directory = tempfile::tempdir()?;
                let mut results = Vec::new();
                for threads in [1, 2] {
                    let run_dir = directory.path().join(threads.to_string());
                    let run = TrainingRun { size, steps, threads, prompts, run_dir: Some(run_dir.clone()) };
                    let measured = run.in_child()?;
                    wall[threads - 1].push(measured.wall_s);
                    cpu[threads - 1].push(measured.cpu_s);
                    results.push(Outcome::read(&run_dir)?);
                }
                ensure!(results[0] == results[1], "{}: one thread and two threads gave different results", size.name);
                ensure!(results[0].metrics.len() as u64 == steps, "{}: expected {steps} lines of metrics", size.name);
            }
            let [one, two] = wall.map(median);
            let [cpu_one, cpu_two] = cpu.map(median);
            let name = if prompts == 1 { size.name.to_owned() } else { format!("{}.prompts{prompts}", size.name) };
            report.keep(&format!("{name}.speedup"), one / two)?;
            report.keep(&format!("{name}.one_thread_s"), one)?;
            report.keep(&format!("{name}.two_threads_s"), two)?;
            report.keep(&format!("{name}.cpu_ratio"), cpu_two / cpu_one)?;
            let cells = [one, two, one / two, cpu_two / cpu_one].map(|value| Some(format!("{value:.2}")));
            table.row(&format!("{}, {} completions a step", size.name, 8 * prompts), cells);
        }
    }
    table.print(&options);
    println!("Metrics and adapter of every run with two threads were those of one thread, byte for byte.");
    // Had they differed, the run would have ended with an error.
    report.keep("identical", 1.0)?;
    report.close(&options);
    Ok(())
}

/// What a run leaves behind, timing left out.
#[derive(Debug, PartialEq)]
struct Outcome {
    metrics: Vec<String>,
    completions: String,
    adapter: Vec<u8>,
}

impl Outcome {
    fn read(run_dir: &Path) -> anyhow::Result<Self> {
        let text =
            |name: &str| fs::read_to_string(run_dir.join(name)).with_context(|| format!("the run left no {name}"));
        let adapter = fs::read(run_dir.join("adapter/adapter_model.safetensors")).context("the run left no adapter")?;
        Ok(Self {
            metrics: text("metrics.jsonl")?.lines().map(strip_timing).collect(),
            completions: text("completions.jsonl")?,
            adapter,
        })
    }
}
