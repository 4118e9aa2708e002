//! What a run has written.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value};

use crate::model::must_be_folder;

/// One line of a log: fields at a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) step: f64,
    pub(crate) fields: Map<String, Value>,
}

impl Record {
    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.fields.get(key).and_then(Value::as_f64).filter(|value| value.is_finite())
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key).and_then(Value::as_str)
    }

    /// An array; empty where there is none.
    pub(crate) fn array(&self, key: &str) -> &[Value] {
        self.fields.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// What a run's folder is called, wherever one stands.
pub(crate) fn folder_name(run: &Path) -> String {
    let absolute = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
    absolute.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A run's logs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunLog {
    /// The folder's name.
    pub(crate) name: String,
    /// `config.toml`, where there is one.
    pub(crate) config: toml::Table,
    /// `metrics.jsonl`, by step.
    pub(crate) metrics: Vec<Record>,
    /// `events.jsonl`, by step; empty where there is none.
    pub(crate) events: Vec<Record>,
    /// The lines of `completions.jsonl` with the last step in it.
    pub(crate) completions: Vec<Record>,
}

impl RunLog {
    /// Reads a run's folder. A last line without its end is one that is being written, and left out if it cannot be read.
    pub(crate) fn read(run: &Path) -> anyhow::Result<Self> {
        must_be_folder(run, "run")?;
        let metrics_path = run.join("metrics.jsonl");
        if !metrics_path.is_file() {
            bail!("{}: not a run directory: expected metrics.jsonl in it, found none", run.display());
        }
        let mut metrics = Vec::new();
        each_record(&metrics_path, |record| metrics.push(record))?;
        if metrics.is_empty() {
            bail!(
                "{}: expected a line for each step, found none: the run has not finished a step",
                metrics_path.display()
            );
        }
        let mut events = Vec::new();
        each_record(&run.join("events.jsonl"), |record| events.push(record))?;
        let mut completions: Vec<Record> = Vec::new();
        each_record(&run.join("completions.jsonl"), |record| {
            if completions.first().is_some_and(|first| first.step != record.step) {
                completions.clear();
            }
            completions.push(record);
        })?;
        let by_step = |a: &Record, b: &Record| a.step.total_cmp(&b.step);
        metrics.sort_by(by_step);
        events.sort_by(by_step);
        Ok(Self { name: folder_name(run), config: config(&run.join("config.toml"))?, metrics, events, completions })
    }

    /// Events of one kind.
    pub(crate) fn events_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Record> {
        self.events.iter().filter(move |event| event.text("event") == Some(kind))
    }

    /// Steps with a finite `key`, and its value there.
    pub(crate) fn values<'a>(&'a self, key: &'a str) -> impl DoubleEndedIterator<Item = (f64, f64)> {
        self.metrics.iter().filter_map(move |record| Some((record.step, record.number(key)?)))
    }

    /// Keys of the metrics in the order in which they first appear.
    pub(crate) fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        for record in &self.metrics {
            for key in record.fields.keys() {
                if !keys.contains(&key.as_str()) {
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// First and last step of anything.
    pub(crate) fn steps(&self) -> (f64, f64) {
        let steps = self.metrics.iter().chain(&self.events).map(|record| record.step);
        steps.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), step| (low.min(step), high.max(step)))
    }
}

fn config(path: &Path) -> anyhow::Result<toml::Table> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| {
            // toml's own text is a drawing of several lines.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            anyhow!("{}:{line}: {}", path.display(), error.message())
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(toml::Table::new()),
        Err(error) => Err(error).with_context(|| format!("{}: cannot read", path.display())),
    }
}

/// Gives every line of a file of JSON lines to `take`; none where there is no file.
fn each_record(path: &Path, mut take: impl FnMut(Record)) -> anyhow::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{}: cannot read", path.display())),
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).with_context(|| format!("{}: cannot read", path.display()))?;
        if read == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match record(&line) {
            Ok(record) => take(record),
            Err(_) if line.last() != Some(&b'\n') => break,
            Err(problem) => bail!("{}:{number}: {problem}", path.display()),
        }
    }
    Ok(())
}

fn record(line: &[u8]) -> Result<Record, String> {
    let fields = match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err("expected a JSON object, found another JSON value".to_owned()),
        Err(error) => return Err(format!("expected a JSON object: {error}")),
    };
    match fields.get("step").and_then(Value::as_f64).filter(|step| step.is_finite() && *step >= 0.0) {
        Some(step) => Ok(Record { step, fields }),
        None => Err(format!(
            "expected `step` to be a number of at least 0, found {}",
            fields.get("step").map_or_else(|| "none".to_owned(), ToString::to_string)
        )),
    }
}
