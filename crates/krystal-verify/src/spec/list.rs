//! Lists of rewards with weights.

use super::RewardSpec;
use super::known::{KNOWN, KnownReward, known, known_names, parameter_names, takes_the_rest};
use crate::Error;

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
/// An entry is `NAME`, `NAME=WEIGHT`, `NAME:PARAMETERS` or `NAME=WEIGHT:PARAMETERS`; entries are separated by commas. After
/// parameters, a comma followed by the name of a reward starts the next entry, and any other comma the next parameter; no
/// parameter is called like a reward. A pattern or a command line may hold commas, so `regex:` and
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::known_rewards;
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
