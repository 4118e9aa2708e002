//! The rewards there are.

use crate::Error;

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

pub(super) const KNOWN: [KnownReward; 9] = [
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

pub(super) fn known_names() -> String {
    KNOWN.map(|known| known.name).join(", ")
}

/// The reward of that name.
pub(super) fn known(name: &str) -> Result<&'static KnownReward, Error> {
    KNOWN.iter().find(|known| known.name == name).ok_or_else(|| {
        let nearest = KNOWN.iter().map(|known| (strsim::damerau_levenshtein(known.name, name), known.name)).min();
        let nearest = nearest.filter(|&(distance, name)| distance <= 1 + name.len() / 3).map(|(_, name)| name);
        Error::UnknownReward { name: name.to_owned(), nearest, known: known_names() }
    })
}

/// Whether the text after the colon may hold commas of its own.
pub(super) fn takes_the_rest(reward: &KnownReward) -> bool {
    matches!(reward.name, "regex" | "command")
}

/// The names of a reward's parameters.
pub(super) fn parameter_names(reward: &KnownReward) -> impl Iterator<Item = &'static str> {
    reward.parameters.split(',').filter_map(|parameter| parameter.split_once('=')).map(|(key, _)| key)
}
