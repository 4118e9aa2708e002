//! What `krystal` can be asked to do, one file a verb.

mod adapter;
mod chat;
mod doctor;
mod eval;
mod generate;
mod report;
mod score;
mod sft;
mod sphere;
mod supervise;
mod train;
mod tune;

use clap::Subcommand;
use krystal::grpo::lm::Ranks;

use crate::cli::Global;
use crate::distributed::Distributed;
use crate::terminal::Terminal;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Train by GRPO: reinforcement from verifiable rewards
    Train(Box<train::Options>),
    /// Train on demonstrations: prompts with their completions
    Sft(Box<sft::Options>),
    /// Search for the settings of a command that give the best number
    Tune(tune::Options),
    /// Run a training command, and launch it again from its last checkpoint when it dies
    Supervise(supervise::Options),
    /// How many problems a model solves; or judge recorded answers
    Eval(Box<eval::Options>),
    /// Complete a text
    Generate(generate::Options),
    /// Talk with a model
    Chat(Box<chat::Options>),
    /// Log-probability and entropy of a given text, token by token
    Score(score::Options),
    /// A run as one HTML page: charts, dynamics of the layers, completions
    Report(report::Options),
    /// Inspect, verify, merge and export LoRA adapters
    #[command(subcommand)]
    Adapter(adapter::Verb),
    /// How gradients are summed: counts, costs of this machine, predictions for many
    #[command(subcommand)]
    Sphere(sphere::Verb),
    /// What this machine has, and what is missing for which feature
    Doctor(doctor::Options),
}

impl Verb {
    /// How the process is to join others.
    pub(crate) fn distributed(&self) -> Distributed {
        match self {
            Self::Train(options) => options.run.distributed,
            Self::Sft(options) => options.run.distributed,
            Self::Sphere(verb) => verb.distributed(),
            _ => Distributed::None,
        }
    }

    /// Does it, as one of `ranks`.
    pub(crate) fn run(&self, global: &Global, terminal: Terminal, ranks: &Ranks) -> anyhow::Result<()> {
        match self {
            Self::Train(options) => train::run(options, global, terminal, ranks),
            Self::Sft(options) => sft::run(options, global, terminal, ranks),
            Self::Tune(options) => tune::run(options, global, terminal),
            Self::Supervise(options) => supervise::run(options, terminal),
            Self::Eval(options) => eval::run(options, global, terminal),
            Self::Generate(options) => generate::run(options, global, terminal),
            Self::Chat(options) => chat::run(options, global, terminal),
            Self::Score(options) => score::run(options, terminal),
            Self::Report(options) => report::run(options, terminal),
            Self::Adapter(verb) => verb.run(global, terminal),
            Self::Sphere(verb) => verb.run(global, terminal, ranks),
            Self::Doctor(options) => doctor::run(options, terminal),
        }
    }
}
