//! `cargo xtask test`: every test of every crate.

use std::env;
use std::path::PathBuf;

use crate::command::{cargo, has_cargo, root, run_keeping};
use crate::graph::{Package, packages};
use crate::{llm_servers, mpi};

/// Options of `cargo xtask test`.
#[derive(Debug, Clone, Default, clap::Args)]
// Flattened into the options of `ci`, whose group has the same name.
#[group(skip)]
pub struct Arguments {
    /// Use Cargo's own test runner even where nextest is installed.
    #[arg(long)]
    plain: bool,
    /// Only these crates instead of all.
    #[arg(long = "package", short, value_name = "CRATE")]
    pub packages: Vec<String>,
}

impl Arguments {
    /// How to name the chosen crates to Cargo.
    pub fn selection(&self) -> Vec<&str> {
        if self.packages.is_empty() {
            return vec!["--workspace"];
        }
        self.packages.iter().flat_map(|name| ["--package", name]).collect()
    }

    /// Whether this crate is one of the chosen.
    pub fn chooses(&self, package: &Package) -> bool {
        self.packages.is_empty() || self.packages.contains(&package.name)
    }
}

/// Runs all tests; returns the runner's closing lines.
///
/// With cargo-nextest, documentation tests run first (nextest does not know them), so that its summary comes last.
///
/// # Errors
/// If a test fails or does not build.
pub fn run(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    for missing in missing() {
        println!("skipped: {missing}");
    }
    let mut closing = on_ranks(arguments)?;
    if arguments.plain || !has_cargo("nextest") {
        closing.extend(run_keeping(cargo(["test"]).args(arguments.selection()), is_closing)?);
        return Ok(closing);
    }
    closing.extend(run_keeping(cargo(["test", "--doc"]).args(arguments.selection()), is_closing)?);
    closing.extend(run_keeping(cargo(["nextest", "run"]).args(arguments.selection()), is_closing)?);
    Ok(closing)
}

/// Tests that start several ranks under `mpirun`, where there is MPI.
fn on_ranks(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let mut closing = Vec::new();
    if mpi::missing().is_none() {
        for package in packages()?.values().filter(|package| arguments.chooses(package) && mpi::is_tested(package)) {
            let command = ["test", "--package", &package.name, "--features", mpi::FEATURE, "--test", "mpi"];
            closing.extend(run_keeping(&mut cargo(command), is_closing)?);
        }
    }
    Ok(closing)
}

/// What is not here and is therefore not tested. The tests find out for themselves; this says so in one place.
fn missing() -> Vec<String> {
    let shared = env::var_os("KRYSTAL_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let mut missing = Vec::new();
    for (folder, what) in [
        ("fixtures/hf", "comparisons with transformers and peft"),
        ("fixtures/grpo", "comparisons with TRL and torch"),
        ("data/gsm8k", "tests on GSM8K"),
        ("data/llm-recordings", "recorded traffic of hosted models"),
    ] {
        if !shared.join(folder).is_dir() {
            missing.push(format!("{what}: no {folder} in the folder that KRYSTAL_SHARED names (default ../shared)"));
        }
    }
    if let Some(reason) = mpi::missing() {
        missing.push(format!("tests on several ranks under MPI: {reason}"));
    }
    if !llm_servers::folder().is_dir() {
        missing.push("servers and clients of hosted models: `cargo xtask llm-servers` installs them".to_owned());
    }
    if !has_cargo("nextest") {
        missing.push("parallel test binaries: cargo-nextest is not installed, Cargo's own runner is used".to_owned());
    }
    missing
}

fn is_closing(line: &str) -> bool {
    line.starts_with("test result:") || line.starts_with("Summary [")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_recognised() {
        assert!(is_closing("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out"));
        assert!(is_closing("Summary [   0.512s] 41 tests run: 41 passed, 0 skipped"));
        assert!(!is_closing("test results_are_written ... ok"));
    }

    #[test]
    fn all_crates_are_chosen_unless_some_are_named() {
        assert_eq!(Arguments::default().selection(), ["--workspace"]);
        let arguments = Arguments { packages: vec!["a".to_owned(), "b".to_owned()], ..Arguments::default() };
        assert_eq!(arguments.selection(), ["--package", "a", "--package", "b"]);
    }
}
