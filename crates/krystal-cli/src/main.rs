#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cli;
mod config_file;
mod demo;
mod distributed;
mod failure;
mod generation;
mod hosted;
mod interrupt;
mod model;
mod process;
mod progress;
mod report;
mod settings;
mod streamed_text;
mod supervisor;
mod terminal;
mod training;
mod tuning;
mod verb;

use std::process::ExitCode;

fn main() -> ExitCode {
    failure::guarded(|| {
        let args: Vec<_> = std::env::args_os().collect();
        match cli::parse(args) {
            Ok(cli) => cli::run(cli),
            Err(failure) => failure::report_usage(&failure),
        }
    })
}
