//! `krystal supervise`: a run that survives deaths.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::failure::{Exit, usage};
use crate::process::{Ending, Process};
use crate::supervisor::{Decision, Launch, RunState, Supervised, can_resume, clear_unbegun, decide, is_taken};
use crate::terminal::{Terminal, error_line};

/// Flags of `krystal supervise`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal supervise -- krystal train --model DIR --data FILE.jsonl --reward math --run-dir RUN
  krystal supervise -- mpirun -n 4 krystal train --distributed mpi --run-dir RUN --model DIR --data FILE.jsonl --reward math
  krystal supervise --restarts 10 --stall 600 -- krystal train --resume RUN

Where the command dies by a signal, as mpirun does when a rank has died, or fails, it is launched again from the run's last
checkpoint: with --resume RUN instead of --run-dir and --config. What is wrong with the request (exit code 2), or fails the same
way again without a new checkpoint in between, is not. Ctrl-C or a request to terminate is passed on, and ends the supervision.
The exit code is that of the last launch, 128 + N for signal N.

With --json the line is {\"run_dir\": .., \"launches\": [{\"exit_code\": .., \"stalled\": .., \"checkpoint\": .., \"seconds\": ..}, ..]}, and
what the command prints goes to stderr.")]
pub(crate) struct Options {
    /// How often the command may be launched again
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) restarts: u32,
    /// Kill the command and launch it again where for so long neither metrics nor checkpoints have moved: more than it takes to
    /// start, to evaluate or to do a step [default: never]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stall: Option<f64>,
    /// The command: krystal train or krystal sft, with --run-dir or --resume, under mpirun or not
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    let stall = options.stall.map(patience).transpose()?;
    let command = Supervised::new(options.command.clone())?;
    let run = command.run();
    if command.is_new() && is_taken(run) {
        let run = run.display();
        return Err(usage(format!(
            "{run}: there is a run already: supervise --resume {run}, or name another --run-dir"
        )));
    }
    listen()?;
    let (mut launches, mut records) = (Vec::new(), Vec::new());
    let mut words = command.words().to_vec();
    let (ending, decision) = loop {
        let started = Instant::now();
        let process = Process::launch(&words, terminal.json);
        let process = process.with_context(|| format!("{}: cannot be started", words[0].display()))?;
        let ending = watch(process, &command, stall)?;
        let checkpoint = RunState::of(run).checkpoint;
        launches.push(Launch { ending, checkpoint });
        records.push(json!({
            "exit_code": ending.code(),
            "stalled": ending == Ending::Stalled,
            "checkpoint": checkpoint,
            "seconds": started.elapsed().as_secs_f64(),
        }));
        let decision = if asked_to_end() > 0 { Decision::Done } else { decide(&launches, options.restarts) };
        if decision != Decision::Relaunch {
            break (ending, decision);
        }
        words = if can_resume(run) {
            command.resuming()
        } else {
            clear_unbegun(run);
            command.words().to_vec()
        };
        let from =
            checkpoint.map_or_else(|| "its beginning".to_owned(), |step| format!("the checkpoint of step {step}"));
        let (number, of) = (launches.len(), options.restarts);
        terminal
            .note(&format!("the run {ending}; launching it again from {from} ({number} of {of}): {}", shown(&words)));
    };
    match (ending.code(), decision) {
        (0, _) => {
            terminal.json(&json!({ "run_dir": run, "launches": records }));
            Ok(())
        }
        (code, Decision::GiveUp(reason)) => {
            Err(Exit::error(code, format!("the run {ending}; not launched again: {reason}")))
        }
        (code, _) => Err(Exit::error(code, format!("the run {ending}"))),
    }
}

/// Waits for the end of a launch, or brings it about.
fn watch(mut process: Process, command: &Supervised, stall: Option<Duration>) -> anyhow::Result<Ending> {
    let mut is_ending = false;
    let (mut state, mut moved) = (RunState::of(command.run()), Instant::now());
    loop {
        if let Some(ending) = process.poll()? {
            return Ok(ending);
        }
        match asked_to_end() {
            0 => {}
            1 if !is_ending => {
                is_ending = true;
                process.ask_to_end();
                error_line("ending the run; once more to kill it");
            }
            1 => {}
            _ => return Ok(process.stop()?),
        }
        let Some(stall) = stall else { continue };
        let now = RunState::of(command.run());
        if now != state {
            (state, moved) = (now, Instant::now());
        } else if moved.elapsed() >= stall {
            process.stop()?;
            return Ok(Ending::Stalled);
        }
    }
}

fn patience(seconds: f64) -> anyhow::Result<Duration> {
    let refused = || usage(format!("--stall must be a number of seconds above 0, not {seconds}"));
    Duration::try_from_secs_f64(seconds).ok().filter(|patience| !patience.is_zero()).ok_or_else(refused)
}

/// How often the supervision was asked to end.
static ASKED: AtomicU32 = AtomicU32::new(0);

fn asked_to_end() -> u32 {
    ASKED.load(Ordering::SeqCst)
}

fn listen() -> anyhow::Result<()> {
    let heard = ctrlc::set_handler(|| {
        ASKED.fetch_add(1, Ordering::SeqCst);
    });
    heard.context("cannot listen for requests to end, which would leave the command behind")
}

/// The command as a shell would be given it.
fn shown(words: &[OsString]) -> String {
    let word = |word: &OsString| {
        let text = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            return text.into_owned();
        }
        format!("'{}'", text.replace('\'', r"'\''"))
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
