//! Workspace tasks: `cargo xtask --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, ci, llm_servers, release, test};

/// Tasks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every test of every crate.
    Test(test::Arguments),
    /// Run every check, cheapest first.
    Ci(ci::Arguments),
    /// Run a benchmark.
    Bench(bench::Arguments),
    /// Install the servers and clients of others that the tests of llm-providers speak with.
    LlmServers,
    /// Show or rehearse a release, in the order of the dependency graph.
    Release(release::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test(arguments) => test::run(&arguments).map(drop),
        Task::Ci(arguments) => ci::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::LlmServers => llm_servers::run(),
        Task::Release(arguments) => release::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line and no backtrace: what failed has said why just above.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
