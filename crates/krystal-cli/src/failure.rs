//! How the process ends when something is wrong: one line, and an exit code that says whose fault it is.
//!
//! | code | meaning |
//! |---|---|
//! | 1 | something that was asked for could not be done |
//! | 2 | the request itself is wrong: flags, configuration keys |
//! | 70 | a bug |
//!
//! `krystal supervise` ends with the code of what it supervises.

use std::any::Any;
use std::fmt;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::error::ErrorKind;
use serde_json::json;

use crate::terminal;

/// An error with an exit code of its own.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    pub(crate) fn error(code: u8, message: impl Into<String>) -> anyhow::Error {
        Self { code, message: message.into() }.into()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

/// An error for a wrong request.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Exit::error(2, message)
}

/// What is wrong with a command line, or what was asked of it (`--help`, `--version`).
pub(crate) enum ParseFailure {
    /// Text for the user, and nothing is wrong.
    Shown(clap::Error),
    /// One line, and whether the answer is to be JSON.
    Wrong { message: String, json: bool },
}

/// Prints the text that was asked for, or the one line that says what is wrong.
pub(crate) fn report_usage(failure: &ParseFailure) -> ExitCode {
    match failure {
        ParseFailure::Shown(text) => {
            let styled = text.render();
            terminal::print(&if terminal::stdout_is_terminal() {
                styled.ansi().to_string()
            } else {
                styled.to_string()
            });
            ExitCode::from(if text.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand { 2 } else { 0 })
        }
        ParseFailure::Wrong { message, json } => {
            print(message, *json);
            ExitCode::from(2)
        }
    }
}

/// Prints an error with its causes on one line.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    print(&one_line(&format!("{error:#}")), json);
    ExitCode::from(error.downcast_ref::<Exit>().map_or(1, |exit| exit.code))
}

fn print(message: &str, json: bool) {
    terminal::error_line(&format!("error: {message}"));
    if json {
        terminal::print(&format!("{}\n", json!({ "error": message })));
    }
}

/// The text without line ends and runs of blanks.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs the program so that a panic, which is a bug, ends in one line and exit code 70.
///
/// The hook only takes notes: libraries catch panics of their own dependencies, and those are not failures.
pub(crate) fn guarded(program: impl FnOnce() -> ExitCode + panic::UnwindSafe) -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
        let note = one_line(&format!("{}{place}", text_of(info.payload())));
        PANIC.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(note);
    }));
    caught(program).unwrap_or_else(|note| {
        terminal::error_line(&format!("error: this is a bug in krystal, please report it with this line: {note}"));
        ExitCode::from(70)
    })
}

/// What the program returns, or what is known of its panic, on one line.
fn caught(program: impl FnOnce() -> ExitCode + panic::UnwindSafe) -> Result<ExitCode, String> {
    panic::catch_unwind(program).map_err(|payload| {
        let noted = PANIC.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        noted.unwrap_or_else(|| one_line(text_of(payload.as_ref())))
    })
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_on_one_line() {
        let n = 3;
        assert_eq!(caught(|| panic!("two\n  lines")), Err("two lines".to_owned()));
        assert_eq!(caught(move || panic!("formatted {n}")), Err("formatted 3".to_owned()));
        assert_eq!(caught(|| ExitCode::SUCCESS), Ok(ExitCode::SUCCESS));
    }

    #[test]
    fn causes_come_on_one_line() {
        let error = anyhow::anyhow!("inner\n  detail").context("outer");
        assert_eq!(one_line(&format!("{error:#}")), "outer: inner detail");
    }
}
