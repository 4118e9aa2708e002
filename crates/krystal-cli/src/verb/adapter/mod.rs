//! `krystal adapter`: PEFT adapter folders.

mod export;
mod hierarchy;
mod inspect;
mod merge;
mod verify;

use clap::Subcommand;

use crate::cli::Global;
use crate::terminal::Terminal;

/// What to do with an adapter.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Modules, ranks, scales and norms; the layers of a saved hierarchy
    Inspect(inspect::Options),
    /// Write the base model with the adapter's updates added to its weights
    Merge(merge::Options),
    /// Check that an adapter fits a base model and that merging it changes nothing, or that a saved hierarchy is whole
    Verify(verify::Options),
    /// Rewrite as plain LoRA of one rank with scale 1, which every PEFT reader understands
    Export(export::Options),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
        match self {
            Self::Inspect(options) => inspect::run(options, terminal),
            Self::Merge(options) => merge::run(options, terminal),
            Self::Verify(options) => verify::run(options, global, terminal),
            Self::Export(options) => export::run(options, terminal),
        }
    }
}
