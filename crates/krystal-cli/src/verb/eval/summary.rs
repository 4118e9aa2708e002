//! What an evaluation came to, as a table or as JSON.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use krystal::grpo::Evaluation;
use serde_json::{Map, Value, json};

use crate::terminal::Terminal;
use crate::training::percent;

/// Lines of a table and the fields of an object, side by side.
#[derive(Debug)]
pub(super) struct Summary {
    terminal: Terminal,
    object: Map<String, Value>,
}

impl Summary {
    pub(super) fn new(terminal: Terminal) -> Self {
        Self { terminal, object: Map::new() }
    }

    /// A line of the table.
    pub(super) fn line(&self, name: &str, text: &str) {
        self.terminal.line(&format!("{name:16} {text}"));
    }

    /// A field of the object.
    pub(super) fn field(&mut self, name: impl Into<String>, value: Value) {
        self.object.insert(name.into(), value);
    }

    /// pass@k and what was counted beside.
    pub(super) fn evaluation(&mut self, evaluation: &Evaluation, seconds: f64) {
        self.field("n", json!(evaluation.n));
        self.field("num_samples", json!(evaluation.num_samples));
        for pass in &evaluation.pass_at {
            let (value, low, high) = (percent(pass.value), percent(pass.low), percent(pass.high));
            self.line(&format!("pass@{}", pass.k), &format!("{value} [{low}, {high}], 95 % interval"));
            self.field(format!("pass@{}", pass.k), json!(pass.value));
            self.field(format!("pass@{}_low", pass.k), json!(pass.low));
            self.field(format!("pass@{}_high", pass.k), json!(pass.high));
        }
        self.line("problems", &format!("{}, {} completions each", evaluation.n, evaluation.num_samples));
        if let Some(mean) = evaluation.mean_reward {
            self.line("mean score", &format!("{mean:.4}"));
        }
        let cut = percent(evaluation.clipped_ratio);
        self.line("length", &format!("{:.1} tokens, {cut} cut", evaluation.mean_length));
        if evaluation.n_abstained > 0 {
            self.line("no verdict", &evaluation.n_abstained.to_string());
        }
        self.line("time", &format!("{seconds:.1} s"));
        self.field("mean_reward", json!(evaluation.mean_reward));
        self.field("abstained", json!(evaluation.n_abstained));
        self.field("mean_length", json!(evaluation.mean_length));
        self.field("clipped_ratio", json!(evaluation.clipped_ratio));
        self.field("seconds", json!(seconds));
    }

    /// Prints the object.
    pub(super) fn end(self) {
        self.terminal.json(&Value::Object(self.object));
    }
}

/// A file of completions; what goes wrong while writing is told at the end.
pub(super) struct Completions {
    path: PathBuf,
    file: BufWriter<std::fs::File>,
    written: std::io::Result<()>,
}

impl Completions {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::create(path).with_context(|| format!("{}: cannot create", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), written: Ok(()) })
    }

    pub(super) fn write(&mut self, line: &Value) {
        if self.written.is_ok() {
            self.written = writeln!(self.file, "{line}");
        }
    }

    pub(super) fn close(mut self) -> anyhow::Result<()> {
        self.written.and_then(|()| self.file.flush()).with_context(|| format!("{}: cannot write", self.path.display()))
    }
}
