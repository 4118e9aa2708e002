//! Options that every benchmark takes.

use std::path::PathBuf;

/// The options that `cargo xtask bench` hands on.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// A smaller run, to see that it works; its numbers are not for quoting.
    #[arg(long)]
    pub quick: bool,
    /// End with one line of JSON: a flat object of names to numbers.
    #[arg(long)]
    pub json: bool,
    /// Print tables as Markdown, after a line about the machine.
    #[arg(long)]
    pub markdown: bool,
    /// A Python virtual environment with the peers to compare with.
    #[arg(long, value_name = "VENV")]
    pub peers: Option<PathBuf>,
}
