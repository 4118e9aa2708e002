//! `krystal sphere`: how gradients are summed, here and on machines that are not here.

mod calibrate;
mod forecast;
mod predict;
mod tree;

use clap::Subcommand;
use krystal::grpo::lm::Ranks;

use crate::cli::Global;
use crate::distributed::Distributed;
use crate::terminal::Terminal;

/// What to know about summing gradients.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Spheres, depths and buffers of a step, by counting
    Tree(tree::Options),
    /// Fit a model of latency and bandwidth to measurements, and predict many machines by it
    Calibrate(calibrate::Options),
    /// Predict many machines from a latency and a bandwidth
    Predict(predict::Options),
}

impl Verb {
    /// How the process is to join others.
    pub(crate) fn distributed(&self) -> Distributed {
        match self {
            Self::Calibrate(options) => options.distributed,
            Self::Tree(_) | Self::Predict(_) => Distributed::None,
        }
    }

    /// Does it, as one of `ranks`.
    pub(crate) fn run(&self, global: &Global, terminal: Terminal, ranks: &Ranks) -> anyhow::Result<()> {
        match self {
            Self::Tree(options) => tree::run(options, global, terminal),
            Self::Calibrate(options) => calibrate::run(options, global, terminal, ranks),
            Self::Predict(options) => predict::run(options, terminal),
        }
    }
}
