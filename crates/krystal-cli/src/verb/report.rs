//! `krystal report`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::report;
use crate::terminal::Terminal;

/// Flags of `krystal report`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal report runs/train-1
  krystal report runs/train-1 --out report.html --open yes

The page holds everything it shows: it can be mailed, kept, and read without a network. It can be made while the run goes on.")]
pub(crate) struct Options {
    /// Run directory
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Where to write the page [default: report.html in the run directory]
    #[arg(long, value_name = "FILE.html")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) out: Option<PathBuf>,
    /// Whether to show it in the browser: yes or no
    #[arg(long, value_name = "BOOL", default_value = "no", action = clap::ArgAction::Set, hide_possible_values = true)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) open: bool,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    let path = match &options.out {
        Some(path) => {
            report::write_to(&options.run, path)?;
            path.clone()
        }
        None => report::write(&options.run)?,
    };
    terminal.line(&path.display().to_string());
    terminal.json(&json!({ "report": path }));
    if options.open { show(&path) } else { Ok(()) }
}

/// Hands the page to the desktop.
fn show(path: &Path) -> anyhow::Result<()> {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let started =
        Command::new(program).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.map(|_| ()).with_context(|| format!("{}: written, but `{program}` cannot show it", path.display()))
}
