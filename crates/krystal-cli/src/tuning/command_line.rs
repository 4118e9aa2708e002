//! The command of a trial.

use std::path::Path;

use super::search_file::{Search, Setting};
use crate::failure::usage;

/// What else than a dimension may stand in braces.
pub(super) const WORDS: [&str; 4] = ["budget", "trial", "seed", "dir"];

/// Verbs of ours that train, whose flags and output are known.
const TRAINING: [&str; 2] = ["train", "sft"];

/// Where they say how good the model is: the share of problems that it solves, and the loss on what was held out.
const METRICS: [&str; 2] = ["eval_after.pass@1", "eval_loss_after"];

/// A command with places for values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    words: Vec<String>,
    /// Where the number is in the JSON object that it prints last.
    metric: Option<String>,
}

/// What a trial puts in the places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling<'a> {
    /// The dimensions' values by name.
    pub(crate) settings: &'a [(String, Setting)],
    pub(crate) budget: Option<u64>,
    pub(crate) trial: u64,
    pub(crate) seed: u64,
    /// A folder of the trial's own.
    pub(crate) dir: &'a Path,
}

impl CommandLine {
    /// The command of a search, `typed` where it was given on the command line. What it has no place for is added as flags, and of
    /// our own training `--json`, `--quiet`, `--seed`, `--threads` and `--run-dir` where they are not given.
    pub(crate) fn new(search: &Search, typed: &[String], program: &str, threads: usize) -> anyhow::Result<Self> {
        let mut words = match (typed, &search.command[..]) {
            ([], []) => vec![program.to_owned(), "train".to_owned()],
            ([], command) => command.to_vec(),
            (typed, _) => typed.to_vec(),
        };
        let is_krystal = Path::new(&words[0]).file_stem().is_some_and(|name| name == "krystal");
        let verb = TRAINING.iter().position(|verb| is_krystal && words.get(1).is_some_and(|word| word == verb));
        if is_krystal && words[0] == "krystal" {
            // The same program, wherever it is.
            program.clone_into(&mut words[0]);
        }
        let known: Vec<&str> = search.space.keys().map(String::as_str).chain(WORDS).collect();
        let unknown = words.iter().flat_map(|word| placeholders(word)).find(|(_, name)| !known.contains(name));
        let unknown = unknown.map(|(_, name)| name.to_owned());
        let dimensions = search.space.keys().map(|name| (name.as_str(), name.replace('_', "-")));
        let budget = search.budget.iter().map(|budget| ("budget", budget.flag.clone()));
        for (name, flag) in dimensions.chain(budget) {
            let place = format!("{{{name}}}");
            if words.iter().any(|word| word.contains(&place)) {
                continue;
            }
            // Braces may be anybody's, but beside a value without a place they are a slip.
            if let Some(unknown) = &unknown {
                return Err(usage(format!("the command has {{{unknown}}}, but no {place}")));
            }
            if has_flag(&words, &flag) {
                return Err(usage(format!("the command sets --{flag} itself: write --{flag}={place}")));
            }
            words.push(format!("--{flag}={place}"));
        }
        if verb.is_some() {
            let threads = threads.to_string();
            let own =
                [("json", ""), ("quiet", ""), ("seed", "{seed}"), ("threads", &threads), ("run-dir", "{dir}/run")];
            for (flag, value) in own {
                if !has_flag(&words, flag) {
                    words.push(if value.is_empty() { format!("--{flag}") } else { format!("--{flag}={value}") });
                }
            }
        }
        if search.budget.is_none() && words.iter().any(|word| word.contains("{budget}")) {
            return Err(usage("the command has {budget}, but the search has no [budget]"));
        }
        let own = verb.map(|verb| METRICS[verb].to_owned());
        Ok(Self { words, metric: search.metric.clone().or(own) })
    }

    /// The words with the values in their places.
    pub(crate) fn filled(&self, filling: Filling<'_>) -> Vec<String> {
        let mut values: Vec<(String, String)> =
            filling.settings.iter().map(|(name, setting)| (name.clone(), setting.to_string())).collect();
        values.extend(filling.budget.map(|budget| ("budget".to_owned(), budget.to_string())));
        values.push(("trial".to_owned(), filling.trial.to_string()));
        values.push(("seed".to_owned(), filling.seed.to_string()));
        values.push(("dir".to_owned(), filling.dir.display().to_string()));
        let value = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let fill = |word: &String| {
            let (mut filled, mut from) = (String::new(), 0);
            for (at, name) in placeholders(word) {
                if let Some(value) = value(name) {
                    filled.push_str(&word[from..at]);
                    filled.push_str(value);
                    from = at + name.len() + 2;
                }
            }
            filled + &word[from..]
        };
        self.words.iter().map(fill).collect()
    }

    /// The words as they are.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Where the number is in the JSON object that the command prints last.
    pub(crate) fn metric(&self) -> Option<&str> {
        self.metric.as_deref()
    }
}

/// Whether a command gives this flag.
fn has_flag(words: &[String], flag: &str) -> bool {
    let rest = |word: &String| word.strip_prefix("--")?.strip_prefix(flag).map(str::to_owned);
    words.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with('='))
}

/// The names in braces that look like a dimension's, and where their braces open.
fn placeholders(word: &str) -> impl Iterator<Item = (usize, &str)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    word.match_indices('{').filter_map(move |(at, _)| {
        let (name, _) = word[at + 1..].split_once('}')?;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain);
        is_name.then_some((at, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn search(text: &str) -> Search {
        Search::parse(text).unwrap()
    }

    const SPACE: &str = "[space.learning_rate]\nmin = 1e-5\nmax = 1e-2\nlog = true\n";

    #[test]
    fn what_has_no_place_becomes_a_flag() {
        let made = |typed: &str| CommandLine::new(&search(SPACE), &words(typed), "/bin/krystal", 2).unwrap();
        assert_eq!(made("./f --lr {learning_rate}").words(), words("./f --lr {learning_rate}"));
        assert_eq!(made("./f x").words(), words("./f x --learning-rate={learning_rate}"));
        assert_eq!(made("./f x").metric(), None);
        let own = made("");
        assert_eq!(
            own.words(),
            words(
                "/bin/krystal train --learning-rate={learning_rate} --json --quiet --seed={seed} --threads=2 --run-dir={dir}/run"
            )
        );
        assert_eq!(own.metric(), Some("eval_after.pass@1"));
        let given = made("krystal sft --seed 3 --json --data d");
        assert_eq!(
            given.words(),
            words(
                "/bin/krystal sft --seed 3 --json --data d --learning-rate={learning_rate} --quiet --threads=2 --run-dir={dir}/run"
            )
        );
    }

    #[test]
    fn places_are_filled() {
        let text = format!("{SPACE}[budget]\nmin = 1\nmax = 9\n");
        let command = CommandLine::new(
            &search(&text),
            &words("./f {learning_rate} {dir}/{trial}.{seed} {budget} {{x} {1}"),
            "k",
            1,
        )
        .unwrap();
        let settings = [("learning_rate".to_owned(), Setting::Real(0.001))];
        let dir = Path::new("t/7");
        let filled = command.filled(Filling { settings: &settings, budget: Some(3), trial: 7, seed: 0, dir });
        assert_eq!(filled, words("./f 0.001 t/7/7.0 3 {{x} {1}"));
    }

    #[test]
    fn places_for_nothing_are_refused() {
        let refused = |typed: &str| CommandLine::new(&search(SPACE), &words(typed), "k", 1).unwrap_err().to_string();
        assert!(refused("./f {learning_rat}").contains("{learning_rat}, but no {learning_rate}"));
        assert!(refused("./f --learning-rate 0.1").contains("--learning-rate={learning_rate}"));
        assert!(refused("./f {budget}").contains("no [budget]"));
    }
}
