//! The command line: global flags, verbs, and how both meet a configuration file.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser};
use serde::Serialize;

use crate::config_file;
use crate::failure::{self, ParseFailure, one_line};
use crate::terminal::Terminal;
use crate::verb::Verb;

/// Trains small language models by reinforcement, on the machine you have
#[derive(Debug, Parser)]
#[command(name = "krystal", version, arg_required_else_help = true, max_term_width = 110)]
#[command(after_help = "\
Examples:
  krystal train                                             the demonstration, from nothing
  krystal train --model DIR --data FILE.jsonl --reward math
  krystal generate --model DIR --prompt 'Once upon a time'
  krystal VERB --help                                       options and examples of a verb")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Options from a file: each flag is a key; flags given here win
    #[arg(long, global = true, value_name = "FILE.toml")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Seed of every random draw: the same seed gives the same result, on one thread or many
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: u64,
    /// Threads to compute with [default: one per core]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Neither progress nor notes on stderr
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    #[serde(skip)]
    pub(crate) quiet: bool,
    /// One JSON object as the last line of stdout, and no other output there
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    #[serde(skip)]
    pub(crate) json: bool,
}

/// Reads a command line and the configuration file that it names.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Cli, ParseFailure> {
    let own = args.split(|arg| arg == "--").next().unwrap_or_default();
    let json = own.iter().any(|arg| arg == "--json" || arg == "--json=true");
    let wrong = |message: String| ParseFailure::Wrong { message, json };
    let mut command = command();
    command.build();
    // Without the requirements first: what is missing here may be in the file.
    let matches = match relaxed(self::command()).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return Err(from_clap(self::command().try_get_matches_from(&args).err().unwrap_or(error), json)),
    };
    let (leaf_command, leaf) = leaf(&command, &matches);
    let mut args = args;
    let path_of = |id| leaf.try_get_one::<PathBuf>(id).ok().flatten();
    let file = match (path_of("config"), path_of("resume")) {
        (Some(_), Some(_)) => {
            return Err(wrong("--resume takes its options from the run: leave out --config".to_owned()));
        }
        (config, None) => config.cloned(),
        (None, Some(run)) => Some(run.join("config.toml")),
    };
    if let Some(path) = &file {
        let from_file =
            config_file::arguments(path, leaf_command, leaf).map_err(|error| wrong(one_line(&format!("{error:#}"))))?;
        let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
        args.splice(end..end, from_file);
    }
    let parsed = self::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match (from_clap(error, json), &file) {
        // With everything required left out the typed part was fine: what is wrong now is the file's, or missing from both.
        (ParseFailure::Wrong { message, json }, Some(path)) => {
            ParseFailure::Wrong { message: format!("with {}: {message}", path.display()), json }
        }
        (failure, _) => failure,
    })
}

/// The command line as it is declared. Negative numbers are values (their range is checked where it is known), and of a flag that
/// is given twice the last one counts.
fn command() -> Command {
    fn conventional(command: Command) -> Command {
        let command = command.args_override_self(true);
        command.mut_args(|arg| arg.allow_negative_numbers(true)).mut_subcommands(conventional)
    }
    conventional(Cli::command())
}

/// The same command with nothing required.
fn relaxed(command: Command) -> Command {
    command.mut_args(|arg| arg.required(false)).mut_subcommands(relaxed)
}

/// The innermost verb.
fn leaf<'c>(command: &'c Command, matches: &'c ArgMatches) -> (&'c Command, &'c ArgMatches) {
    match matches.subcommand() {
        Some((name, matches)) => match command.find_subcommand(name) {
            Some(command) => leaf(command, matches),
            None => (command, matches),
        },
        None => (command, matches),
    }
}

/// clap's message on one line; help and version as they are.
fn from_clap(error: clap::Error, json: bool) -> ParseFailure {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ParseFailure::Shown(error)
        }
        _ => {
            let text = error.render().to_string();
            let kept: Vec<String> = text
                .split("\n\n")
                .filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"))
                .map(|part| one_line(part).trim_start_matches("error: ").to_owned())
                .filter(|part| !part.is_empty())
                .collect();
            ParseFailure::Wrong { message: kept.join("; "), json }
        }
    }
}

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let Cli { global, verb } = cli;
    let joined = match verb.distributed().join() {
        Ok(joined) => joined,
        Err(error) => return failure::report(&error, global.json),
    };
    let rank = joined.ranks.rank();
    let terminal = Terminal { json: global.json, quiet: global.quiet || rank > 0 };
    let done = start_threads(global.threads).and_then(|()| verb.run(&global, terminal, &joined.ranks));
    match done {
        Ok(()) => {
            joined.leave();
            ExitCode::SUCCESS
        }
        Err(error) if rank > 0 => failure::report(&error.context(format!("rank {rank}")), false),
        Err(error) => failure::report(&error, global.json),
    }
}

fn start_threads(threads: Option<NonZeroUsize>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.get())
        .build_global()
        .with_context(|| format!("cannot start {threads} threads"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_has_examples() {
        fn check(command: &Command) {
            let verbs: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
            if verbs.is_empty() {
                let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains("krystal "), "{} has no example", command.get_name());
            }
            verbs.into_iter().for_each(check);
        }
        check(&command());
    }
}
