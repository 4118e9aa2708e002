//! `cargo xtask bench NAME`: one of the binaries of `benches/`, in a release build.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::command::{cargo, output, root};
use crate::graph;

/// The package whose binaries are the benchmarks.
const PACKAGE: &str = "krystal-benches";

/// Options of `cargo xtask bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Which benchmark; without one, lists them.
    name: Option<String>,
    /// A smaller run, to see that it works; its numbers are not for quoting.
    #[arg(long)]
    quick: bool,
    /// End with one line of JSON: a flat object of names to numbers.
    #[arg(long)]
    json: bool,
    /// A Python virtual environment with the peers to compare with.
    #[arg(long, value_name = "VENV")]
    peers: Option<PathBuf>,
}

/// Runs a benchmark and, with `--json`, checks that its last line is what was promised.
///
/// # Errors
/// If there is no such benchmark, it fails, or its last line is no flat object of numbers.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let packages = graph::packages()?;
    let package = packages.get(PACKAGE).with_context(|| format!("the workspace has no package {PACKAGE}"))?;
    let names = package.binaries.join(", ");
    let Some(name) = &arguments.name else {
        println!("benchmarks: {names}");
        return Ok(());
    };
    if !package.binaries.contains(name) {
        bail!("no benchmark is called `{name}`; there are: {names}");
    }
    let mut command = cargo(["run", "--quiet", "--release", "--package", PACKAGE, "--bin", name, "--"]);
    if arguments.quick {
        command.arg("--quick");
    }
    if arguments.json {
        command.arg("--json");
    }
    if let Some(peers) = &arguments.peers {
        let peers = peers.canonicalize().with_context(|| format!("no virtual environment at {}", peers.display()))?;
        command.arg("--peers").arg(peers);
    }
    // Relative paths are those of whoever typed the command.
    command.current_dir(std::env::current_dir().unwrap_or_else(|_| root())).stderr(Stdio::inherit());
    if !arguments.json {
        return crate::command::run(&mut command);
    }
    let text = output(&mut command)?;
    print!("{text}");
    check(text.lines().last().unwrap_or_default())
}

fn check(line: &str) -> anyhow::Result<()> {
    let object: Value =
        serde_json::from_str(line).with_context(|| format!("expected a line of JSON at the end, found `{line}`"))?;
    let fields = object.as_object().context("expected a JSON object at the end")?;
    match fields.iter().find(|(_, value)| !value.is_number()) {
        Some((name, value)) => bail!("expected numbers only in the last line, `{name}` is {value}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_must_be_a_flat_object_of_numbers() {
        assert!(check(r#"{"tiny.ratio":12.5,"n":3}"#).is_ok());
        for wrong in ["", "done", "[1]", r#"{"a":"b"}"#, r#"{"a":{"b":1}}"#, r#"{"a":null}"#] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
