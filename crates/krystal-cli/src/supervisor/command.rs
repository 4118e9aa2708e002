//! The command that is supervised, and how it goes on.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::failure::usage;

const VERBS: [&str; 2] = ["train", "sft"];
const RUN_DIR: &str = "--run-dir";
const RESUME: &str = "--resume";
const CONFIG: &str = "--config";

/// A command that trains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Supervised {
    words: Vec<OsString>,
    verb: usize,
    run: PathBuf,
    is_new: bool,
}

impl Supervised {
    /// Reads the command: `krystal train` or `krystal sft` with a run directory, with anything before it.
    pub(crate) fn new(words: Vec<OsString>) -> anyhow::Result<Self> {
        let verb = words.iter().position(|word| VERBS.iter().any(|verb| word == verb)).filter(|verb| *verb > 0);
        let verb = verb.ok_or_else(|| usage("nothing to supervise: expected -- .. krystal train .. or krystal sft"))?;
        let (new, resumed) = (value(&words[verb..], RUN_DIR), value(&words[verb..], RESUME));
        let Some(run) = resumed.as_ref().or(new.as_ref()) else {
            return Err(usage("which run to go on with is not known: name its folder by --run-dir in the command"));
        };
        Ok(Self { verb, run: PathBuf::from(run), is_new: resumed.is_none(), words })
    }

    /// The run's folder.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    /// Whether the command begins the run.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// The command as it was given.
    pub(crate) fn words(&self) -> &[OsString] {
        &self.words
    }

    /// The command that goes on with the run. Its options are in the run's config.toml; those that were given are given again,
    /// since some say how to run and are not kept there.
    pub(crate) fn resuming(&self) -> Vec<OsString> {
        let replaced = |word: &OsString| [RUN_DIR, RESUME, CONFIG].into_iter().find_map(|flag| takes(word, flag));
        let mut words = Vec::with_capacity(self.words.len() + 2);
        let mut rest = self.words.iter().enumerate();
        while let Some((at, word)) = rest.next() {
            match replaced(word) {
                Some(Value::Next) => drop(rest.next()),
                Some(Value::Within(_)) => {}
                None => words.push(word.clone()),
            }
            if at == self.verb {
                words.extend([OsString::from(RESUME), self.run.clone().into_os_string()]);
            }
        }
        words
    }
}

/// Where the value of a flag is.
enum Value {
    Within(OsString),
    Next,
}

/// Whether a word is this flag.
fn takes(word: &OsStr, flag: &str) -> Option<Value> {
    if word == flag {
        return Some(Value::Next);
    }
    // A path that is not Unicode is understood as the word after its flag.
    word.to_str()?.strip_prefix(flag)?.strip_prefix('=').map(|value| Value::Within(value.into()))
}

/// The value of a flag; of several the last counts.
fn value(words: &[OsString], flag: &str) -> Option<OsString> {
    let mut found = words.iter().enumerate().rev().filter_map(|(at, word)| match takes(word, flag)? {
        Value::Within(value) => Some(value),
        Value::Next => words.get(at + 1).cloned(),
    });
    found.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn resumed(text: &str) -> (PathBuf, Vec<OsString>) {
        let command = Supervised::new(words(text)).unwrap();
        (command.run().to_owned(), command.resuming())
    }

    #[test]
    fn the_run_is_resumed_with_what_else_was_given() {
        for (given, expected) in [
            ("krystal train --run-dir R --model M --quiet", "krystal train --resume R --model M --quiet"),
            (
                "mpirun -n 4 krystal train --distributed mpi --run-dir=R",
                "mpirun -n 4 krystal train --resume R --distributed mpi",
            ),
            ("krystal sft --config a.toml --run-dir R --json", "krystal sft --resume R --json"),
            ("krystal --config=a.toml train --run-dir R", "krystal train --resume R"),
            ("krystal train --resume R --threads 2", "krystal train --resume R --threads 2"),
            ("krystal train --run-dir Q --run-dir R", "krystal train --resume R"),
        ] {
            assert_eq!(resumed(given), (PathBuf::from("R"), words(expected)), "{given}");
        }
    }

    #[test]
    fn new_runs_are_told_from_old_ones() {
        assert!(Supervised::new(words("krystal train --run-dir R")).unwrap().is_new());
        assert!(!Supervised::new(words("krystal train --resume R")).unwrap().is_new());
    }

    #[test]
    fn commands_without_a_run_are_refused() {
        for (given, why) in [
            ("krystal train --model M", "--run-dir"),
            ("krystal train --run-dir", "--run-dir"),
            ("krystal generate --model M", "krystal train"),
            ("train --run-dir R", "krystal train"),
        ] {
            let error = Supervised::new(words(given)).unwrap_err().to_string();
            assert!(error.contains(why), "{given}: {error}");
        }
    }
}
