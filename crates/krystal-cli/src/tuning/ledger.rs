//! `trials.jsonl`: what every trial came to, from which a search goes on.
//!
//! A search is a function of its file, its seed and what its trials came to. So nothing else is saved: a resumed search asks for
//! the same trials again and finds those in the ledger that have been run.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::search_file::Setting;

/// A trial on one rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Which trial, from 0.
    pub(crate) trial: u64,
    /// Which rung, from 0.
    pub(crate) rung: usize,
    /// What it was allowed to cost.
    pub(crate) budget: Option<u64>,
    /// The dimensions' values.
    pub(crate) settings: Map<String, Value>,
    /// The number, or why there is none.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// Seconds that it took.
    pub(crate) seconds: f64,
}

/// What a trial came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The number that the command printed.
    Value(f64),
    /// Why there is none.
    Failure(String),
}

impl Outcome {
    /// The number.
    pub(crate) fn value(&self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Failure(_) => None,
        }
    }
}

/// The settings as a JSON object.
pub(crate) fn object(settings: &[(String, Setting)]) -> Map<String, Value> {
    let value = |setting: &Setting| match setting {
        Setting::Flag(flag) => Value::from(*flag),
        Setting::Integer(number) => Value::from(*number),
        Setting::Real(number) => Value::from(*number),
        Setting::Word(word) => Value::from(word.as_str()),
    };
    settings.iter().map(|(name, setting)| (name.clone(), value(setting))).collect()
}

/// The file and what is in it.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    places: HashMap<(u64, usize), usize>,
}

impl Ledger {
    /// Opens the ledger at `path`, which need not exist. A last line that was cut short is dropped: its trial runs again.
    pub(crate) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let entries = if path.exists() { read(&path)? } else { Vec::new() };
        let kept: u64 = entries.iter().map(|(_, end)| *end).next_back().unwrap_or(0);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("{}: cannot write", path.display()))?;
        file.set_len(kept).with_context(|| format!("{}: cannot write", path.display()))?;
        let mut ledger = Self { path, file, entries: Vec::new(), places: HashMap::new() };
        entries.into_iter().for_each(|(entry, _)| ledger.remember(entry));
        Ok(ledger)
    }

    fn remember(&mut self, entry: Entry) {
        self.places.insert((entry.trial, entry.rung), self.entries.len());
        self.entries.push(entry);
    }

    /// What a trial came to on a rung, if it was run.
    ///
    /// # Errors
    /// Where it was run with other settings: the file belongs to another search.
    pub(crate) fn find(
        &self,
        trial: u64,
        rung: usize,
        budget: Option<u64>,
        settings: &[(String, Setting)],
    ) -> anyhow::Result<Option<&Entry>> {
        let Some(entry) = self.places.get(&(trial, rung)).map(|place| &self.entries[*place]) else { return Ok(None) };
        let now = object(settings);
        if entry.settings != now || entry.budget != budget {
            let (path, then) = (self.path.display(), Value::Object(entry.settings.clone()));
            return Err(anyhow!(
                "{path}: trial {trial} was run with {then}, now it would be with {}: the search is not the same",
                Value::Object(now)
            ));
        }
        Ok(Some(entry))
    }

    /// Adds what a trial came to.
    pub(crate) fn add(&mut self, entry: Entry) -> anyhow::Result<()> {
        let line = serde_json::to_string(&entry)? + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush());
        written.with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.remember(entry);
        Ok(())
    }

    /// Everything there is, in the order it was written.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// The entries of a file.
pub(crate) fn read_ledger(path: &Path) -> anyhow::Result<Vec<Entry>> {
    Ok(read(path)?.into_iter().map(|(entry, _)| entry).collect())
}

/// The entries of a file, each with the place where its line ends.
fn read(path: &Path) -> anyhow::Result<Vec<(Entry, u64)>> {
    let text = std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let mut entries = Vec::new();
    let mut end = 0;
    for (i, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        end += line.len();
        if !line.ends_with(b"\n") {
            break;
        }
        let entry = serde_json::from_slice(line)
            .map_err(|error| anyhow!("{}, line {}: not a trial: {error}", path.display(), i + 1))?;
        entries.push((entry, end as u64));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(trial: u64, outcome: Outcome) -> Entry {
        let settings = object(&[("rate".to_owned(), Setting::Real(1e-5)), ("n".to_owned(), Setting::Integer(3))]);
        Entry { trial, rung: 0, budget: Some(5), settings, outcome, seconds: 0.5 }
    }

    #[test]
    fn what_was_written_is_found_again_and_a_line_that_was_cut_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials.jsonl");
        let mut ledger = Ledger::open(path.clone()).unwrap();
        let entries = [entry(0, Outcome::Value(0.1)), entry(1, Outcome::Failure("exit code 1: no".into()))];
        entries.iter().for_each(|entry| ledger.add(entry.clone()).unwrap());
        drop(ledger);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"trial\": 2, \"ru");
        std::fs::write(&path, text).unwrap();
        let mut ledger = Ledger::open(path.clone()).unwrap();
        assert_eq!(ledger.entries(), entries);
        ledger.add(entry(2, Outcome::Value(3.0))).unwrap();
        assert_eq!(Ledger::open(path).unwrap().entries().len(), 3);
    }

    #[test]
    fn another_search_and_a_foreign_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials.jsonl");
        let mut ledger = Ledger::open(path.clone()).unwrap();
        ledger.add(entry(0, Outcome::Value(0.1))).unwrap();
        let own = [("rate".to_owned(), Setting::Real(1e-5)), ("n".to_owned(), Setting::Integer(3))];
        assert!(ledger.find(0, 0, Some(5), &own).unwrap().is_some());
        assert!(ledger.find(1, 0, Some(5), &own).unwrap().is_none());
        let error = ledger.find(0, 0, Some(5), &own[..1]).unwrap_err().to_string();
        assert!(error.contains("trial 0") && error.contains("not the same"), "{error}");
        assert!(ledger.find(0, 0, Some(9), &own).is_err());
        std::fs::write(&path, "{\"step\": 1}\n").unwrap();
        let error = Ledger::open(path).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
