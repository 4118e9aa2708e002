//! A file of answers, one a line, from which whatever asks goes on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::{Answer, Spending};

/// The file and what is in it. Others that open it meanwhile are refused.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    answers: HashMap<String, Answer>,
    spending: Spending,
}

impl Journal {
    /// Opens the journal at `path`, which need not exist. A last line that was cut short is dropped: its question is asked again.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let wrong = || format!("{}: cannot write", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(wrong)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(wrong)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{}: another krystal is writing its answers here", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(wrong),
        }
        let text = std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?;
        let mut answers = HashMap::new();
        let mut spending = Spending::default();
        let mut end = 0;
        for (i, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if !line.ends_with(b"\n") {
                break;
            }
            let answer: Answer = serde_json::from_slice(line)
                .map_err(|error| anyhow!("{}, line {}: not an answer: {error}", path.display(), i + 1))?;
            spending.add(&answer);
            answers.insert(answer.key.clone(), answer);
            end += line.len();
        }
        file.set_len(end as u64).with_context(wrong)?;
        Ok(Self { path: path.to_owned(), file, answers, spending })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What was answered to a question.
    pub(crate) fn find(&self, key: &str) -> Option<&Answer> {
        self.answers.get(key)
    }

    /// What all its answers cost.
    pub(crate) fn spending(&self) -> &Spending {
        &self.spending
    }

    /// Adds an answer.
    pub(crate) fn add(&mut self, answer: Answer) -> anyhow::Result<()> {
        let line = serde_json::to_string(&answer)? + "\n";
        self.file.write_all(line.as_bytes()).with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.spending.add(&answer);
        self.answers.insert(answer.key.clone(), answer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use krystal::llm::StopReason;

    use super::*;

    fn answer(key: &str, text: &str) -> Answer {
        Answer { key: key.to_owned(), text: text.to_owned(), ..Answer::example(StopReason::Length) }
    }

    #[test]
    fn what_was_added_is_found_again_and_a_line_that_was_cut_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/answers.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.add(answer("a", "two\nlines")).unwrap();
        journal.add(answer("b", "é")).unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("another krystal"), "{error}");
        drop(journal);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"key\": \"c");
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.find("a"), Some(&answer("a", "two\nlines")));
        assert_eq!(journal.find("c"), None);
        journal.add(answer("c", "")).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().answers.len(), 3);
    }

    #[test]
    fn a_foreign_file_is_told_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.jsonl");
        std::fs::write(&path, "{\"prompt\": \"a\"}\n").unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("line 1: not an answer"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"prompt\": \"a\"}\n");
    }
}
