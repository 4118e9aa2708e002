//! Rewards as they are written on a command line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::command::{Command, words};
use crate::rewards::calculator::Calculator;
use crate::rewards::exact::Exact;
use crate::rewards::math::Math;
use crate::rewards::numeric::Numeric;
use crate::rewards::pattern::Pattern;
use crate::rewards::repetition::Repetition;
use crate::rewards::soft_overlong::SoftOverlong;
use crate::rewards::think_format::ThinkFormat;
use crate::{Error, GoldColumn, Verifier};

/// A reward by name, for help texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownReward {
    /// The name.
    pub name: &'static str,
    /// Its parameters as they are written, empty where there are none.
    pub parameters: &'static str,
    /// What it scores, in one line.
    pub description: &'static str,
}

const KNOWN: [KnownReward; 9] = [
    KnownReward {
        name: "exact",
        parameters: "column=NAME",
        description: "1 if the completion equals the gold column, white space at both ends aside",
    },
    KnownReward {
        name: "numeric",
        parameters: "column=NAME,tolerance=0",
        description: "1 if the last number of the completion is within the tolerance of the gold",
    },
    KnownReward {
        name: "math",
        parameters: "column=NAME",
        description: "1 if the final answer (####, A:, \\boxed, `answer is`, last number) equals the gold exactly",
    },
    KnownReward {
        name: "regex",
        parameters: "pattern=REGEX",
        description: "1 if the pattern matches somewhere in the completion; takes the rest of the text",
    },
    KnownReward {
        name: "think_format",
        parameters: "",
        description: "1 if the completion is <think>...</think>... with one opening tag",
    },
    KnownReward {
        name: "soft_overlong",
        parameters: "cache=TOKENS,max=TOKENS",
        description: "0 for short completions, falling to -1 over the last `cache` tokens before `max` (default: the run's limit)",
    },
    KnownReward {
        name: "repetition",
        parameters: "n=3,penalty=-1",
        description: "the share of repeated token n-grams times the penalty",
    },
    KnownReward {
        name: "calculator",
        parameters: "missing=SCORE",
        description: "the share of <<48/2=24>> annotations that are right; without any: no verdict, or `missing`",
    },
    KnownReward {
        name: "command",
        parameters: "timeout=10,COMMAND LINE",
        description: "scores from any program, one JSON object per line each way; takes the rest of the text",
    },
];

/// Every reward with its parameters and a one-line description, in the order of a help text.
pub fn known_rewards() -> &'static [KnownReward] {
    &KNOWN
}

fn known_names() -> String {
    KNOWN.map(|known| known.name).join(", ")
}

/// A reward and its parameters: plain data, built by [`RewardSpec::build`].
///
/// Written `NAME` or `NAME:KEY=VALUE,KEY=VALUE`; `Display` writes it back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RewardSpec {
    /// [`Exact`].
    Exact {
        /// Where the gold stands.
        column: GoldColumn,
    },
    /// [`Numeric`].
    Numeric {
        /// Where the gold stands.
        column: GoldColumn,
        /// Absolute tolerance, a decimal; default `0`.
        tolerance: String,
    },
    /// [`Math`].
    Math {
        /// Where the gold stands.
        column: GoldColumn,
    },
    /// [`Pattern`].
    Regex {
        /// The pattern.
        pattern: String,
    },
    /// [`ThinkFormat`].
    ThinkFormat,
    /// [`SoftOverlong`].
    SoftOverlong {
        /// Tokens; `None`: the run's longest completion.
        max: Option<usize>,
        /// Tokens.
        cache: usize,
    },
    /// [`Repetition`].
    Repetition {
        /// Tokens per n-gram, default 3.
        n: usize,
        /// Score of a completion that only repeats, default -1.
        penalty: f64,
    },
    /// [`Calculator`].
    Calculator {
        /// Score of a completion without annotations; `None` abstains.
        missing: Option<f64>,
    },
    /// [`Command`].
    Command {
        /// The command line, split at white space outside quotes.
        line: String,
        /// Seconds per item, default 10.
        timeout: f64,
    },
}

/// Seconds a reward command has for one item, unless said otherwise.
pub(crate) const DEFAULT_TIMEOUT: f64 = 10.0;

impl RewardSpec {
    /// The reward's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact { .. } => "exact",
            Self::Numeric { .. } => "numeric",
            Self::Math { .. } => "math",
            Self::Regex { .. } => "regex",
            Self::ThinkFormat => "think_format",
            Self::SoftOverlong { .. } => "soft_overlong",
            Self::Repetition { .. } => "repetition",
            Self::Calculator { .. } => "calculator",
            Self::Command { .. } => "command",
        }
    }

    /// Builds the verifier. A program is started when it is first asked, not here.
    ///
    /// # Errors
    /// Where a parameter's value makes no sense, or a pattern does not compile.
    pub fn build(&self) -> Result<Box<dyn Verifier>, Error> {
        Ok(match self {
            Self::Exact { column } => Box::new(Exact::new(column.clone())),
            Self::Numeric { column, tolerance } => Box::new(Numeric::new(column.clone(), tolerance)?),
            Self::Math { column } => Box::new(Math::new(column.clone())),
            Self::Regex { pattern } => Box::new(Pattern::new(pattern)?),
            Self::ThinkFormat => Box::new(ThinkFormat),
            Self::SoftOverlong { max, cache } => Box::new(SoftOverlong::new(*max, *cache)?),
            Self::Repetition { n, penalty } => Box::new(Repetition::new(*n, *penalty)?),
            Self::Calculator { missing } => Box::new(Calculator::new(*missing)),
            Self::Command { line, timeout } => {
                let timeout = Duration::try_from_secs_f64(*timeout).ok().filter(|timeout| !timeout.is_zero());
                let timeout =
                    timeout.ok_or_else(|| invalid("command", "timeout to be seconds > 0", &self.to_string()))?;
                Box::new(Command::new(words::split(line)?)?.with_timeout(timeout))
            }
        })
    }

    /// The reward `name` with the parameters written in `body`.
    fn parse(name: &str, body: Option<&str>) -> Result<Self, Error> {
        let known = known(name)?;
        let mut parameters = Parameters::new(known, body)?;
        let spec = match known.name {
            "exact" => Self::Exact { column: parameters.column() },
            "numeric" => Self::Numeric {
                column: parameters.column(),
                tolerance: parameters.take("tolerance").unwrap_or("0").to_owned(),
            },
            "math" => Self::Math { column: parameters.column() },
            "regex" => Self::Regex {
                pattern: parameters
                    .take("pattern")
                    .ok_or_else(|| invalid("regex", "pattern=REGEX", body.unwrap_or("")))?
                    .to_owned(),
            },
            "think_format" => Self::ThinkFormat,
            "soft_overlong" => Self::SoftOverlong {
                max: parameters.parsed("max", "max to be a number of tokens")?,
                cache: parameters
                    .parsed("cache", "cache to be a number of tokens")?
                    .ok_or_else(|| invalid("soft_overlong", "cache=TOKENS", body.unwrap_or("")))?,
            },
            "repetition" => Self::Repetition {
                n: parameters.parsed("n", "n to be a number of tokens")?.unwrap_or(3),
                penalty: parameters.parsed("penalty", "penalty to be a number <= 0")?.unwrap_or(-1.0),
            },
            "calculator" => Self::Calculator { missing: parameters.finite("missing", "missing to be a finite score")? },
            _ => Self::Command {
                timeout: parameters.finite("timeout", "timeout to be seconds > 0")?.unwrap_or(DEFAULT_TIMEOUT),
                line: parameters
                    .rest
                    .filter(|line| !line.trim().is_empty())
                    .ok_or_else(|| invalid("command", "a command line", body.unwrap_or("")))?
                    .to_owned(),
            },
        };
        // Values are checked now, so that a typing error does not surface after the model has been loaded.
        spec.build()?;
        Ok(spec)
    }
}

impl fmt::Display for RewardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters = Vec::new();
        match self {
            Self::Exact { column } | Self::Math { column } => parameters.extend(column_parameter(column)),
            Self::Numeric { column, tolerance } => {
                parameters.extend(column_parameter(column));
                parameters.push(format!("tolerance={tolerance}"));
            }
            Self::Regex { pattern } => parameters.push(format!("pattern={pattern}")),
            Self::ThinkFormat => {}
            Self::SoftOverlong { max, cache } => {
                parameters.extend(max.map(|max| format!("max={max}")));
                parameters.push(format!("cache={cache}"));
            }
            Self::Repetition { n, penalty } => parameters.push(format!("n={n},penalty={penalty}")),
            Self::Calculator { missing } => parameters.extend(missing.map(|score| format!("missing={score}"))),
            Self::Command { line, timeout } => parameters.push(format!("timeout={timeout},{line}")),
        }
        let colon = if parameters.is_empty() { "" } else { ":" };
        write!(f, "{}{colon}{}", self.name(), parameters.join(","))
    }
}

fn column_parameter(column: &GoldColumn) -> Option<String> {
    match column {
        GoldColumn::Usual => None,
        GoldColumn::Named(name) => Some(format!("column={name}")),
    }
}

impl FromStr for RewardSpec {
    type Err = Error;

    /// One reward, without a weight.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, body) = match text.split_once(':') {
            Some((name, body)) => (name, Some(body)),
            None => (text, None),
        };
        Self::parse(name.trim(), body)
    }
}

/// A reward and what it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedReward {
    /// Unique in its list: the reward's name, with `_2`, `_3`, ... from the second one of that name on.
    pub name: String,
    /// Factor of the score, default 1.
    pub weight: f64,
    /// The reward.
    pub reward: RewardSpec,
}

/// Parses a list of weighted rewards: `math=1.0,calculator=0.2`, `exact:column=answer`,
/// `math,soft_overlong=0.5:max=512,cache=64,repetition`.
///
/// An entry is `NAME`, `NAME=WEIGHT`, `NAME:PARAMETERS` or `NAME=WEIGHT:PARAMETERS`; entries are separated by commas. What
/// follows a comma continues the parameters before it where it starts with a parameter of that reward, and is the next
/// entry otherwise; no parameter is called like a reward. A pattern or a command line may hold commas, so `regex:` and
/// `command:` take all the rest of the text: put them last.
///
/// # Errors
/// Names what was expected: the known rewards (and the nearest one), the parameters of a reward, the kind of a value.
pub fn parse_rewards(list: &str) -> Result<Vec<WeightedReward>, Error> {
    let mut rewards: Vec<WeightedReward> = Vec::new();
    let mut rest = Some(list);
    while let Some(text) = rest {
        let (head, after) = split_at_any(text, &[',', ':']);
        let (name, weight) = match head.split_once('=') {
            Some((name, weight)) => (name.trim(), Some(weight.trim())),
            None => (head.trim(), None),
        };
        if name.is_empty() {
            return Err(Error::EmptyReward { list: list.to_owned(), known: known_names() });
        }
        let known = known(name)?;
        let weight = match weight {
            None => 1.0,
            Some(written) => written
                .parse::<f64>()
                .ok()
                .filter(|weight| weight.is_finite())
                .ok_or_else(|| Error::InvalidWeight { reward: name.to_owned(), found: written.to_owned() })?,
        };
        let body = match after {
            Some((':', body)) if takes_the_rest(known) => {
                rest = None;
                Some(body)
            }
            Some((':', body)) => {
                let end = parameters_end(known, body);
                rest = body[end..].strip_prefix(',');
                Some(&body[..end])
            }
            Some((_, next)) => {
                rest = Some(next);
                None
            }
            None => {
                rest = None;
                None
            }
        };
        let reward = RewardSpec::parse(name, body)?;
        let same = rewards.iter().filter(|other| other.reward.name() == reward.name()).count();
        let unique = if same == 0 { name.to_owned() } else { format!("{name}_{}", same + 1) };
        rewards.push(WeightedReward { name: unique, weight, reward });
    }
    Ok(rewards)
}

/// `text` up to the first of `separators`, then that separator and what follows it.
fn split_at_any<'a>(text: &'a str, separators: &[char]) -> (&'a str, Option<(char, &'a str)>) {
    match text.find(separators) {
        // The separators are ASCII.
        Some(at) => (&text[..at], Some((text.as_bytes()[at] as char, &text[at + 1..]))),
        None => (text, None),
    }
}

/// Where the parameters of a reward end in `body`: before the first comma that the name of a reward follows. Everything
/// else is a parameter, if perhaps an unknown one.
fn parameters_end(reward: &KnownReward, body: &str) -> usize {
    let mut start = 0;
    for segment in body.split(',') {
        let name = segment.split(['=', ':']).next().unwrap_or("").trim();
        let is_parameter = parameter_names(reward).any(|key| key == name);
        if start > 0 && !is_parameter && KNOWN.iter().any(|known| known.name == name) {
            return start - 1;
        }
        start += segment.len() + 1;
    }
    body.len()
}

fn known(name: &str) -> Result<&'static KnownReward, Error> {
    KNOWN.iter().find(|known| known.name == name).ok_or_else(|| {
        let nearest = KNOWN.iter().map(|known| (strsim::damerau_levenshtein(known.name, name), known.name)).min();
        let nearest = nearest.filter(|&(distance, name)| distance <= 1 + name.len() / 3).map(|(_, name)| name);
        Error::UnknownReward { name: name.to_owned(), nearest, known: known_names() }
    })
}

/// Whether the text after the colon may hold commas of its own.
fn takes_the_rest(reward: &KnownReward) -> bool {
    matches!(reward.name, "regex" | "command")
}

fn parameter_names(reward: &KnownReward) -> impl Iterator<Item = &'static str> {
    reward.parameters.split(',').filter_map(|parameter| parameter.split_once('=')).map(|(key, _)| key)
}

fn invalid(reward: &'static str, expected: &'static str, found: &str) -> Error {
    Error::InvalidParameter { reward, expected, found: found.to_owned() }
}

/// The parameters of one reward as written.
struct Parameters<'a> {
    reward: &'static str,
    written: Vec<(&'a str, &'a str)>,
    /// The command line of `command`.
    rest: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    fn new(known: &KnownReward, body: Option<&'a str>) -> Result<Self, Error> {
        let mut parameters = Self { reward: known.name, written: Vec::new(), rest: None };
        let Some(body) = body else { return Ok(parameters) };
        match known.name {
            "command" => {
                let timeout = body.strip_prefix("timeout=").and_then(|rest| rest.split_once(','));
                parameters.written.extend(timeout.map(|(value, _)| ("timeout", value.trim())));
                parameters.rest = Some(timeout.map_or(body, |(_, line)| line));
            }
            "regex" => match body.split_once('=') {
                Some(("pattern", pattern)) => parameters.written.push(("pattern", pattern)),
                _ => return Err(parameters.unknown(known, body)),
            },
            _ => {
                for segment in body.split(',') {
                    let (key, value) = segment.split_once('=').unwrap_or((segment, ""));
                    let (key, value) = (key.trim(), value.trim());
                    if !parameter_names(known).any(|name| name == key) {
                        return Err(parameters.unknown(known, key));
                    }
                    if value.is_empty() {
                        return Err(invalid(known.name, "KEY=VALUE", segment));
                    }
                    if parameters.written.iter().any(|(earlier, _)| *earlier == key) {
                        return Err(Error::RepeatedParameter { reward: known.name, key: key.to_owned() });
                    }
                    parameters.written.push((key, value));
                }
            }
        }
        Ok(parameters)
    }

    fn unknown(&self, known: &KnownReward, key: &str) -> Error {
        let key = key.split_once('=').map_or(key, |(key, _)| key);
        let expected = if known.parameters.is_empty() {
            "it has no parameters".to_owned()
        } else {
            format!("expected {}", known.parameters)
        };
        Error::UnknownParameter { reward: self.reward, key: key.to_owned(), expected }
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.written.iter().find(|(written, _)| *written == key).map(|(_, value)| *value)
    }

    fn column(&mut self) -> GoldColumn {
        self.take("column").map_or(GoldColumn::Usual, |name| GoldColumn::Named(name.to_owned()))
    }

    fn parsed<T: FromStr>(&mut self, key: &str, expected: &'static str) -> Result<Option<T>, Error> {
        let reward = self.reward;
        self.take(key).map(|value| value.parse().map_err(|_| invalid(reward, expected, value))).transpose()
    }

    fn finite(&mut self, key: &str, expected: &'static str) -> Result<Option<f64>, Error> {
        let value = self.parsed::<f64>(key, expected)?;
        match value {
            Some(number) if !number.is_finite() => Err(invalid(self.reward, expected, &number.to_string())),
            value => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(list: &str) -> String {
        let rewards = parse_rewards(list).unwrap_or_else(|error| panic!("{list}: {error}"));
        rewards.iter().map(|r| format!("{}*{} {}", r.weight, r.name, r.reward)).collect::<Vec<_>>().join(" | ")
    }

    fn error(list: &str) -> String {
        parse_rewards(list).expect_err(list).to_string()
    }

    #[test]
    fn lists_are_understood() {
        for (list, expected) in [
            ("math", "1*math math"),
            ("math=1.0,calculator=0.2", "1*math math | 0.2*calculator calculator"),
            ("exact:column=answer", "1*exact exact:column=answer"),
            ("soft_overlong:max=512,cache=64", "1*soft_overlong soft_overlong:max=512,cache=64"),
            (
                "math,soft_overlong=0.5:max=512,cache=64,repetition",
                "1*math math | 0.5*soft_overlong soft_overlong:max=512,cache=64 | 1*repetition repetition:n=3,penalty=-1",
            ),
            (" math = 2 , exact : column = target ", "2*math math | 1*exact exact:column=target"),
            ("exact:column=answer,calculator=0.2", "1*exact exact:column=answer | 0.2*calculator calculator"),
            ("math,regex=0.1:pattern=^a{1,2}=b:$", "1*math math | 0.1*regex regex:pattern=^a{1,2}=b:$"),
            ("command:./prog a,b", "1*command command:timeout=10,./prog a,b"),
            ("command=2:timeout=0.5,./prog 'a b'", "2*command command:timeout=0.5,./prog 'a b'"),
            ("math,math:column=b", "1*math math | 1*math_2 math:column=b"),
            ("math=-1", "-1*math math"),
            ("numeric:tolerance=1e-6", "1*numeric numeric:tolerance=1e-6"),
            ("calculator:missing=0", "1*calculator calculator:missing=0"),
        ] {
            assert_eq!(shown(list), expected, "{list}");
        }
    }

    #[test]
    fn errors_say_what_was_expected() {
        for (list, parts) in [
            ("maths", vec!["unknown reward `maths`", "did you mean `math`?", "soft_overlong"]),
            ("zzzzzzzz", vec!["unknown reward `zzzzzzzz`; expected one of: exact"]),
            ("", vec!["expected the name of a reward", "known rewards: exact"]),
            ("math,,exact", vec!["expected the name of a reward"]),
            ("math=much", vec!["expected a finite weight, found `much`"]),
            ("math=NaN", vec!["expected a finite weight, found `NaN`"]),
            ("exact:colum=a", vec!["no parameter `colum`", "expected column=NAME"]),
            ("think_format:a=b", vec!["no parameter `a`", "it has no parameters"]),
            ("exact:column=a,column=b", vec!["`column` is given twice"]),
            ("exact:column=", vec!["expected KEY=VALUE"]),
            ("soft_overlong", vec!["expected cache=TOKENS"]),
            ("soft_overlong:max=10,cache=20", vec!["expected cache between 1 and max tokens"]),
            ("soft_overlong:cache=-1", vec!["cache to be a number of tokens, found `-1`"]),
            ("regex", vec!["expected pattern=REGEX"]),
            ("regex:pattern=(", vec!["the pattern `(` does not compile"]),
            ("regex:patern=a", vec!["no parameter `patern`", "expected pattern=REGEX"]),
            ("command", vec!["expected a command line"]),
            ("command:timeout=0,./a", vec!["expected timeout to be seconds > 0"]),
            ("command:./a 'b", vec!["expected a closing quote"]),
            ("repetition:n=0", vec!["expected n to be at least 1"]),
            ("repetition:penalty=1", vec!["expected penalty to be a finite number <= 0"]),
            ("numeric:tolerance=-1", vec!["expected tolerance to be a number >= 0"]),
        ] {
            let message = error(list);
            for part in parts {
                assert!(message.contains(part), "{list}: {message}");
            }
        }
    }

    /// What makes a list unambiguous.
    #[test]
    fn no_parameter_is_called_like_a_reward() {
        for reward in known_rewards() {
            for key in parameter_names(reward) {
                assert!(KNOWN.iter().all(|known| known.name != key), "{key}");
            }
        }
    }

    #[test]
    fn every_known_reward_can_be_written() {
        for known in known_rewards() {
            let parameters = match known.name {
                "regex" => ":pattern=a",
                "soft_overlong" => ":cache=4",
                "command" => ":true",
                _ => "",
            };
            let spec: RewardSpec = format!("{}{parameters}", known.name).parse().expect(known.name);
            assert_eq!(spec.name(), known.name);
            assert_eq!(spec.build().expect("it has been checked").name(), known.name);
            assert_eq!(spec.to_string().parse::<RewardSpec>().expect("it has been written by us"), spec);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = parse_rewards(&text);
        }

        #[test]
        fn near_misses_never_panic_and_round_trip(text in "(math|exact|soft_overlong|regex|command|numeric)[=:,a-z0-9. '\"]{0,30}") {
            if let Ok(rewards) = parse_rewards(&text) {
                for reward in rewards {
                    prop_assert_eq!(reward.reward.to_string().parse::<RewardSpec>().expect("written by us"), reward.reward);
                }
            }
        }
    }
}
