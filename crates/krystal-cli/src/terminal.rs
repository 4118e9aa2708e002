//! Where output goes: results to stdout, everything else to stderr.
//!
//! With `--json` stdout holds JSON alone; with `--quiet` stderr holds errors alone. A reader that goes away (`| head`) ends the
//! process in silence, as it does for other tools.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::progress::Progress;

/// What the user wants to see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// One JSON object instead of text.
    pub(crate) json: bool,
    /// Neither progress nor notes.
    pub(crate) quiet: bool,
}

impl Terminal {
    /// A result for people; nothing with `--json`.
    pub(crate) fn line(self, text: &str) {
        if !self.json {
            print(&format!("{text}\n"));
        }
    }

    /// Part of a result for people, shown at once.
    pub(crate) fn piece(self, text: &str) {
        if !self.json && !text.is_empty() {
            print(text);
        }
    }

    /// The result for programs: the last line of stdout with `--json`.
    pub(crate) fn json(self, value: &Value) {
        if self.json {
            print(&format!("{value}\n"));
        }
    }

    /// Something worth knowing that is no result.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            error_line(text);
        }
    }

    /// Progress of `total` steps; `total` 0 where it is not known.
    pub(crate) fn progress(self, label: &str, total: usize) -> Progress {
        Progress::new(label, total, self.quiet)
    }
}

/// Writes to stdout.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Without a reader there is nobody to tell; anything else (a full disk) must not pass for success.
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        error_line(&format!("error: cannot write to stdout: {error}"));
        std::process::exit(1);
    }
}

/// Writes a line to stderr; where that fails there is nowhere left to say so.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether stdout is watched by a person.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}
