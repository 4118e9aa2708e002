//! `cargo xtask release`: what would be published, in which order.

use anyhow::bail;

use crate::command::{self, cargo};
use crate::graph;

/// Options of `cargo xtask release`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Build every package as it would be uploaded, and upload nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Prints the crates, each after those it depends on; with `--dry-run` packages them too. Publishing itself is done by hand.
///
/// # Errors
/// If a crate lacks what publishing needs, or does not package.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let order = graph::release_order()?;
    for package in &order {
        for file in ["README.md", "CHANGELOG.md"] {
            if !package.folder.join(file).is_file() {
                bail!("{} has no {file}", package.name);
            }
        }
        println!("{}", package.name);
    }
    if arguments.dry_run {
        let mut command = cargo(["package", "--no-verify"]);
        for package in &order {
            command.args(["--package", &package.name]);
        }
        command::run(&mut command)?;
    }
    Ok(())
}
