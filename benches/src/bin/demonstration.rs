//! What `krystal train` without arguments teaches, and how long it takes: the whole demonstration, seed by seed.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use clap::Parser;
use krystal_benches::{Options, Report, Table};
use serde_json::Value;

#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let seeds: &[u64] = if options.quick { &[1] } else { &[1, 2, 3] };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "krystal-cli"])
        .current_dir(root)
        .status()?;
    anyhow::ensure!(built.success(), "krystal does not build");
    let this = std::env::current_exe()?;
    let krystal = this.with_file_name("krystal").with_extension(std::env::consts::EXE_EXTENSION);

    let folder = tempfile::tempdir()?;
    let mut report = Report::default();
    let mut table = Table::new(["seed", "temperature", "before, %", "after, %", "gain, points", "problems", "seconds"]);
    let temperatures = ["1", "phase"];
    for (seed, temperature) in seeds.iter().flat_map(|seed| temperatures.map(|temperature| (seed, temperature))) {
        let place = folder.path().join(format!("{seed}-{temperature}"));
        let run = demonstrate(&krystal, *seed, temperature, &place)?;
        let number = |pointer: &str| {
            run.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in {run}"))
        };
        let (before, after) = (100.0 * number("/eval_before/pass@1")?, 100.0 * number("/eval_after/pass@1")?);
        let (n, seconds) = (number("/eval_after/n")?, number("/seconds")?);
        let named = [("before", before), ("after", after), ("gain", after - before), ("n", n), ("seconds", seconds)];
        let run = if temperature == "1" { format!("seed{seed}") } else { format!("seed{seed}_{temperature}") };
        for (name, value) in named {
            report.keep(&format!("{run}.{name}"), value)?;
        }
        let cells = [
            temperature.to_owned(),
            format!("{before:.1}"),
            format!("{after:.1}"),
            format!("{:.1}", after - before),
            format!("{n:.0}"),
            format!("{seconds:.0}"),
        ];
        table.row(&seed.to_string(), cells.map(Some));
    }
    table.print(&options);
    report.close(&options);
    Ok(())
}

/// Runs the demonstration and returns its closing JSON object.
fn demonstrate(krystal: &Path, seed: u64, temperature: &str, run: &Path) -> anyhow::Result<Value> {
    let output = Command::new(krystal)
        .args(["train", "--json", "--quiet", "--seed", &seed.to_string(), "--temperature", temperature, "--run-dir"])
        .arg(run)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", krystal.display()))?;
    anyhow::ensure!(output.status.success(), "the demonstration with seed {seed} failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("the demonstration's last line is not JSON")
}
