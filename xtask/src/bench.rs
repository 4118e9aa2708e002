//! `cargo xtask bench NAME`: one of the binaries of `benches/`, in a release build.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::command::{cargo, output, root};
use crate::{graph, system};

/// The package whose binaries are the benchmarks.
pub const PACKAGE: &str = "krystal-benches";

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
    /// Print tables as Markdown, after a line about the machine.
    #[arg(long)]
    markdown: bool,
    /// Put the tables into docs/benchmarks/NAME.md, in place of those that were recorded before, and the numbers beside them.
    #[arg(long, conflicts_with = "quick")]
    record: bool,
    /// A Python virtual environment with the peers to compare with.
    #[arg(long, value_name = "VENV")]
    peers: Option<PathBuf>,
    /// Options of this benchmark alone, after `--`.
    #[arg(last = true)]
    own: Vec<String>,
}

/// The feature that a benchmark is built with.
fn feature(name: &str) -> Option<&'static str> {
    match name {
        "bbob" => Some(system::BBOB),
        "llm" => Some("llm-peers"),
        "rl" => Some("peers"),
        _ => None,
    }
}

/// Between these lines of its page stands what a benchmark printed.
const RECORDED: [&str; 2] = ["<!-- recorded: begin -->\n", "<!-- recorded: end -->\n"];

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
    let mut command = cargo(["run", "--quiet", "--release", "--package", PACKAGE, "--bin", name]);
    if let Some(feature) = feature(name) {
        if let Some(reason) = system::missing(feature) {
            bail!("`{name}` cannot be built: {reason}");
        }
        command.args(["--features", feature]);
    }
    command.arg("--");
    if arguments.quick {
        command.arg("--quick");
    }
    if arguments.json || arguments.record {
        command.arg("--json");
    }
    if arguments.markdown || arguments.record {
        command.arg("--markdown");
    }
    if let Some(peers) = &arguments.peers {
        let peers = peers.canonicalize().with_context(|| format!("no virtual environment at {}", peers.display()))?;
        command.arg("--peers").arg(peers);
    }
    command.args(&arguments.own);
    // Relative paths are those of whoever typed the command.
    command.current_dir(std::env::current_dir().unwrap_or_else(|_| root())).stderr(Stdio::inherit());
    if !arguments.json && !arguments.record {
        return crate::command::run(&mut command);
    }
    let text = output(&mut command)?;
    print!("{text}");
    let numbers = text.lines().last().unwrap_or_default();
    check(numbers)?;
    if arguments.record { record(name, text.trim_end().trim_end_matches(numbers), numbers) } else { Ok(()) }
}

/// Writes the tables into the page of the benchmark and the numbers, one a line, into a JSON file beside it.
fn record(name: &str, tables: &str, numbers: &str) -> anyhow::Result<()> {
    let folder = root().join("docs/benchmarks");
    let page = folder.join(format!("{name}.md"));
    let text = std::fs::read_to_string(&page).with_context(|| format!("could not read {}", page.display()))?;
    let text = with_recorded(&text, tables).with_context(|| format!("{} has no place for tables", page.display()))?;
    std::fs::write(&page, text).with_context(|| format!("could not write {}", page.display()))?;
    let object: Value = serde_json::from_str(numbers)?;
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&object)? + "\n")
        .with_context(|| format!("could not write {}", file.display()))
}

/// The page with other tables; `None` where it has no place for them.
fn with_recorded(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(RECORDED[0])?;
    let (_, after) = rest.split_once(RECORDED[1])?;
    Some(format!("{before}{}\n{}\n\n{}{after}", RECORDED[0], tables.trim(), RECORDED[1]))
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
    fn tables_are_replaced_and_nothing_else() {
        let page = "# x\n<!-- recorded: begin -->\nold\n<!-- recorded: end -->\nend\n";
        let new = with_recorded(page, "\nnew\n\n").unwrap();
        assert_eq!(new, "# x\n<!-- recorded: begin -->\n\nnew\n\n<!-- recorded: end -->\nend\n");
        assert_eq!(with_recorded(&new, "new").unwrap(), new);
        assert_eq!(with_recorded("# x\n", "new"), None);
    }

    #[test]
    fn the_last_line_must_be_a_flat_object_of_numbers() {
        assert!(check(r#"{"tiny.ratio":12.5,"n":3}"#).is_ok());
        for wrong in ["", "done", "[1]", r#"{"a":"b"}"#, r#"{"a":{"b":1}}"#, r#"{"a":null}"#] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
