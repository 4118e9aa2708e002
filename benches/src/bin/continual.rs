//! Does an adapter learn new tasks and keep the old ones?

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use krystal_benches::Options;
use krystal_benches::continual::{Base, Job, Settings, StreamKind, methods, run_all};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Streams to run, by name, with commas.
    #[arg(long, value_delimiter = ',')]
    streams: Vec<String>,
    /// Methods to run, by name, with commas.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Learning rate.
    #[arg(long, default_value_t = 3e-3)]
    lr: f64,
    /// Seeds to run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Sizes, or numbers of a learner: key=value.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Where the trained base model is kept; the system's temporary folder if not given.
    #[arg(long)]
    cache: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut settings = Settings::default();
    for assignment in &arguments.assignments {
        settings.set(assignment)?;
    }
    let cache = arguments.cache.clone().unwrap_or_else(std::env::temp_dir);
    let base = Base::load_or_train(&settings, &cache)?;
    let known = base.accuracies(&settings);
    let list: Vec<String> = known.iter().map(|(name, accuracy)| format!("{name} {:.0}", 100.0 * accuracy)).collect();
    eprintln!("base: {}", list.join("; "));
    let mut jobs = Vec::new();
    for kind in StreamKind::ALL {
        if !arguments.streams.is_empty() && !arguments.streams.iter().any(|name| name == kind.name()) {
            continue;
        }
        for method in methods() {
            if !arguments.methods.is_empty() && !arguments.methods.iter().any(|name| name == method.name) {
                continue;
            }
            for seed in 1..=arguments.seeds {
                jobs.push(Job { method, kind, seed, learning_rate: arguments.lr, hyper: 0.0 });
            }
        }
    }
    let threads = std::thread::available_parallelism().context("how many processors are there?")?.get();
    let records = run_all(&base, &jobs, &settings, threads)?;
    for (job, record) in jobs.iter().zip(&records) {
        println!(
            "{} {} seed {} ({:.1} s, learning {:.1} s)",
            job.kind.name(),
            job.method.name,
            job.seed,
            record.total_s,
            record.learn_s
        );
        println!("  {}", record.names.join("; "));
        for (row, task) in record.matrix.iter().zip(&record.schedule) {
            let cells: Vec<String> = row.iter().map(|a| format!("{:4.0}", 100.0 * a)).collect();
            println!("  {task}: {}", cells.join(""));
        }
    }
    Ok(())
}
