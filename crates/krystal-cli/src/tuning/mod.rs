//! `krystal tune`: a swarm of particles in the space of a command's settings.

mod command_line;
mod halving;
mod ledger;
mod metric;
mod search_file;
mod trial_runner;
mod tuner;

/// Files of a search's folder: what is searched, and what its trials came to.
pub(crate) const SPACE: &str = "space.toml";
pub(crate) const LEDGER: &str = "trials.jsonl";

pub(crate) use command_line::CommandLine;
pub(crate) use ledger::{Entry, Ledger, Outcome, read_ledger};
pub(crate) use search_file::{Goal, Range, Search};
pub(crate) use trial_runner::TrialRunner;
pub(crate) use tuner::{Best, Tuner};
