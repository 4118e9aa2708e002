//! `space.toml`: what is searched, over which command, for which number.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::halving::Budget;
use super::ledger::Entry;
use crate::failure::{one_line, usage};

/// A search, as its file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// The command and its arguments; `{name}` stands for a dimension's value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// Where the number is in the JSON object that the command prints last; without it, the last number that it prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metric: Option<String>,
    /// Whether more is better.
    #[serde(default)]
    pub(crate) goal: Goal,
    /// How much each trial may cost, where poor ones are to cost less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<Budget>,
    /// The dimensions by name.
    pub(crate) space: BTreeMap<String, Range>,
    /// Points to try first: a value for every dimension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) start: Vec<BTreeMap<String, Setting>>,
}

/// Which numbers are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Goal {
    /// Large ones.
    #[default]
    Maximize,
    /// Small ones.
    Minimize,
}

impl Goal {
    /// What a swarm, which minimises, is told.
    pub(crate) fn cost(self, value: f64) -> f64 {
        match self {
            Self::Maximize => -value,
            Self::Minimize => value,
        }
    }
}

/// The values of a dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRange", into = "RawRange")]
pub(crate) enum Range {
    /// Numbers from `min` to `max`.
    Real { min: f64, max: f64, is_log: bool },
    /// Whole numbers from `min` to `max`.
    Integer { min: i64, max: i64, is_log: bool },
    /// One of these.
    Choice(Vec<Setting>),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRange {
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    log: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    integer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<Setting>>,
}

impl TryFrom<RawRange> for Range {
    type Error = String;

    fn try_from(raw: RawRange) -> Result<Self, String> {
        let RawRange { min, max, log: is_log, integer, choices } = raw;
        if let Some(choices) = choices {
            if min.is_some() || max.is_some() || is_log || integer {
                return Err("expected `choices` alone, or `min` and `max`".to_owned());
            }
            if choices.is_empty() || (1..choices.len()).any(|i| choices[..i].contains(&choices[i])) {
                return Err("expected at least one of `choices`, all of them different".to_owned());
            }
            return Ok(Self::Choice(choices));
        }
        let (Some(min), Some(max)) = (min, max) else {
            return Err("expected `min` and `max`, or `choices`".to_owned());
        };
        if !(min < max && (max - min).is_finite()) {
            return Err(format!("expected `min` below `max`, found {min} and {max}"));
        }
        if is_log && min <= 0.0 {
            return Err(format!("expected `min` above 0 with `log`, found {min}"));
        }
        if !integer {
            return Ok(Self::Real { min, max, is_log });
        }
        const LARGEST: f64 = (1_u64 << 53) as f64;
        if [min, max].iter().any(|end| end.fract() != 0.0 || end.abs() > LARGEST) {
            return Err(format!("expected whole numbers with `integer`, found {min} and {max}"));
        }
        Ok(Self::Integer { min: min as i64, max: max as i64, is_log })
    }
}

impl From<Range> for RawRange {
    fn from(range: Range) -> Self {
        match range {
            Range::Real { min, max, is_log } => Self { min: Some(min), max: Some(max), log: is_log, ..Self::default() },
            Range::Integer { min, max, is_log } => {
                Self { min: Some(min as f64), max: Some(max as f64), log: is_log, integer: true, ..Self::default() }
            }
            Range::Choice(choices) => Self { choices: Some(choices), ..Self::default() },
        }
    }
}

/// The value of a dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A word.
    Word(String),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Integer(number) => write!(f, "{number}"),
            // The shortest text that reads back as the same number, with an exponent where plain digits would be long.
            Self::Real(number) if *number != 0.0 && !(1e-4..1e9).contains(&number.abs()) => write!(f, "{number:e}"),
            Self::Real(number) => write!(f, "{number}"),
            Self::Word(word) => f.write_str(word),
        }
    }
}

impl Range {
    /// Whether it has this value.
    fn has(&self, setting: &Setting) -> bool {
        match (self, setting) {
            (Self::Real { min, max, .. }, Setting::Real(x)) => (min..=max).contains(&x),
            (Self::Real { min, max, .. }, Setting::Integer(x)) => (*min..=*max).contains(&(*x as f64)),
            (Self::Integer { min, max, .. }, Setting::Integer(x)) => (min..=max).contains(&x),
            (Self::Choice(choices), setting) => choices.contains(setting),
            _ => false,
        }
    }
}

impl Range {
    /// The number that a swarm knows a value by: of a choice, its place.
    pub(crate) fn number(&self, setting: &Setting) -> f64 {
        match (self, setting) {
            (Self::Choice(choices), setting) => choices.iter().position(|choice| choice == setting).unwrap_or(0) as f64,
            (_, Setting::Real(number)) => *number,
            (_, Setting::Integer(number)) => *number as f64,
            (_, Setting::Flag(_) | Setting::Word(_)) => f64::NAN,
        }
    }

    /// The value that a swarm's number stands for.
    pub(super) fn setting(&self, number: f64) -> Setting {
        match self {
            Self::Real { min, max, .. } => Setting::Real(rounded(number).clamp(*min, *max)),
            Self::Integer { .. } => Setting::Integer(number as i64),
            Self::Choice(choices) => choices[(number as usize).min(choices.len() - 1)].clone(),
        }
    }
}

/// Six significant digits: what is tried can be read, and typed.
fn rounded(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

impl Search {
    /// From better to worse: whoever went further is better; among those that went as far the number counts. Whoever
    /// has no number is worst.
    pub(crate) fn order(&self, a: &Entry, b: &Entry) -> Ordering {
        let cost = |entry: &Entry| entry.outcome.value().map(|value| self.goal.cost(value));
        match (cost(a), cost(b)) {
            (Some(x), Some(y)) => b.rung.cmp(&a.rung).then(x.total_cmp(&y)),
            (x, y) => x.is_none().cmp(&y.is_none()),
        }
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
        Self::parse(&text).map_err(|problem| usage(format!("{}{problem}", path.display())))
    }

    /// Reads its text. The error begins where a file's name ends.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let search: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = place.map_or_else(String::new, |line| format!(", line {line}"));
            format!("{line}: {}", one_line(error.message()))
        })?;
        search.check().map_err(|problem| format!(": {problem}"))?;
        Ok(search)
    }

    fn check(&self) -> Result<(), String> {
        if self.space.is_empty() {
            return Err("expected at least one dimension, as a table [space.NAME]".to_owned());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for name in self.space.keys() {
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("the name of a dimension is letters, digits, `_` and `-`, not `{name}`"));
            }
            if super::command_line::WORDS.contains(&name.as_str()) {
                return Err(format!("a dimension cannot be called `{name}`, which stands for something else"));
            }
        }
        if let Some(budget) = &self.budget {
            budget.check()?;
        }
        for (i, start) in self.start.iter().enumerate() {
            let n = i + 1;
            if let Some(name) = start.keys().find(|name| !self.space.contains_key(*name)) {
                return Err(format!("start {n} has `{name}`, which is no dimension"));
            }
            for (name, range) in &self.space {
                match start.get(name) {
                    None => return Err(format!("start {n} has no value for `{name}`")),
                    Some(setting) if !range.has(setting) => {
                        return Err(format!("start {n} has {setting} for `{name}`, which is not in its range"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
command = ["krystal", "train", "--learning-rate={rate}"]
metric = "eval_after.pass@1"
goal = "minimize"
[budget]
min = 5
max = 45
[space.rate]
min = 1e-5
max = 0.01
log = true
[space.n]
min = 4
max = 16
integer = true
[space.loss]
choices = ["dapo", "grpo"]
[[start]]
rate = 0.001
n = 8
loss = "dapo"
"#;

    #[test]
    fn a_file_says_what_it_says_and_survives_a_round_trip() {
        let search = Search::parse(WHOLE).unwrap();
        assert_eq!(search.goal, Goal::Minimize);
        assert_eq!(search.space["n"], Range::Integer { min: 4, max: 16, is_log: false });
        assert_eq!(search.space["rate"], Range::Real { min: 1e-5, max: 0.01, is_log: true });
        assert_eq!(search.start[0]["loss"], Setting::Word("dapo".into()));
        let again = Search::parse(&toml::to_string(&search).unwrap()).unwrap();
        assert_eq!(again, search);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (from, to, parts) in [
            ("min = 1e-5", "min = 1.0", &["below `max`"][..]),
            ("log = true", "log = 1", &["line 11", "bool"]),
            ("min = 1e-5", "min = -1", &["above 0"]),
            ("min = 4", "min = 4.5", &["whole numbers"]),
            ("integer = true", "integr = true", &["integr"]),
            ("choices = [\"dapo\", \"grpo\"]", "choices = []", &["at least one"]),
            ("choices = [\"dapo\", \"grpo\"]", "choices = [1, 1]", &["different"]),
            ("[space.n]", "[space.'a b']", &["`a b`"]),
            ("[space.n]", "[space.trial]", &["`trial`"]),
            ("n = 8", "n = 99", &["start 1", "99"]),
            ("n = 8", "", &["no value for `n`"]),
            ("goal = \"minimize\"", "goal = \"up\"", &["up"]),
            ("max = 45", "max = 4", &["budget"]),
        ] {
            let error = Search::parse(&WHOLE.replace(from, to)).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{to}: {error}");
        }
        assert!(Search::parse("").unwrap_err().contains("space"));
        assert!(Search::parse("[space]").unwrap_err().contains("at least one dimension"));
    }

    /// A file with bytes changed is read or refused, and what is read can be written and read again.
    #[test]
    fn damaged_files_are_read_or_refused() {
        use krystal::math::rng::{Purpose, SplitMix64};

        let mut rng = SplitMix64::stream(2, Purpose::SelfCheck, 0, 0);
        let mut n_read = 0;
        for _ in 0..4_000 {
            let mut bytes = WHOLE.as_bytes().to_vec();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                match rng.below(3) {
                    0 => bytes[at] = b" \"[]={}#.-0123456789aeinx\n"[rng.below(25) as usize],
                    1 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at + 1),
                }
            }
            if let Ok(search) = Search::parse(&String::from_utf8_lossy(&bytes)) {
                assert_eq!(Search::parse(&toml::to_string(&search).unwrap()).unwrap(), search);
                n_read += 1;
            }
        }
        assert!((100..3_900).contains(&n_read), "{n_read}");
    }

    #[test]
    fn what_a_swarm_says_is_short_and_within() {
        let range = Range::Real { min: 1e-5, max: 0.123_456_78, is_log: true };
        assert_eq!(range.setting(0.001_000_000_000_000_2).to_string(), "0.001");
        assert_eq!(range.setting(0.000_123_456_789).to_string(), "0.000123457");
        assert_eq!(range.setting(0.123_456_78), Setting::Real(0.123_456_78));
    }

    #[test]
    fn settings_read_back_as_what_they_were() {
        for (setting, text) in [
            (Setting::Real(1.234_567_890_123_456_7e-5), "1.2345678901234568e-5"),
            (Setting::Real(0.001), "0.001"),
            (Setting::Real(0.0), "0"),
            (Setting::Integer(-3), "-3"),
            (Setting::Flag(true), "true"),
        ] {
            assert_eq!(setting.to_string(), text);
        }
    }
}
