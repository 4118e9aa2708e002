//! Progress on stderr: a bar on a terminal, a plain line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::error_line;

/// How often a plain line is printed.
const EVERY: Duration = Duration::from_secs(5);

/// A task that takes a while.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Shown,
    label: String,
    total: usize,
    done: usize,
    message: String,
    last: Instant,
    started: Instant,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Progress {
    pub(crate) fn new(label: &str, total: usize, quiet: bool) -> Self {
        let shown = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines,
            (false, true) => {
                let (bar, template) = match total {
                    0 => (ProgressBar::new_spinner(), "{prefix} {spinner} {elapsed} {wide_msg}"),
                    _ => (ProgressBar::new(total as u64), "{prefix} {bar:24} {pos}/{len} {elapsed}<{eta} {wide_msg}"),
                };
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = bar.with_style(style).with_prefix(label.to_owned());
                bar.enable_steady_tick(Duration::from_millis(200));
                Shown::Bar(bar)
            }
        };
        let now = Instant::now();
        Self { shown, label: label.to_owned(), total, done: 0, message: String::new(), last: now, started: now }
    }

    /// How far the task is, and a few words about it.
    pub(crate) fn set(&mut self, done: usize, message: &str) {
        self.done = done;
        message.clone_into(&mut self.message);
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position(done as u64);
                bar.set_message(self.message.clone());
            }
            Shown::Lines if self.last.elapsed() >= EVERY => {
                self.last = Instant::now();
                error_line(&self.text());
            }
            Shown::Lines | Shown::Nothing => {}
        }
    }

    /// A line of text above the bar.
    pub(crate) fn line(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| error_line(text)),
            Shown::Lines => error_line(text),
            Shown::Nothing => {}
        }
    }

    fn text(&self) -> String {
        let total = if self.total > 0 { format!("/{}", self.total) } else { String::new() };
        let seconds = self.started.elapsed().as_secs();
        format!("{} {}{total} {seconds} s {}", self.label, self.done, self.message).trim_end().to_owned()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            // The last state of what took long enough to be mentioned.
            Shown::Lines if self.started.elapsed() >= EVERY => error_line(&self.text()),
            Shown::Lines | Shown::Nothing => {}
        }
    }
}
