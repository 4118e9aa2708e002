//! What can go wrong outside the judging of a completion.

use std::io;

/// A reward could not be set up or run. One completion without a verdict is [`crate::Outcome::Abstain`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No reward has this name.
    #[error("unknown reward `{name}`{}; expected one of: {known}", nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default())]
    UnknownReward {
        /// The name that was given.
        name: String,
        /// The known name nearest by edit distance, if any is near.
        nearest: Option<&'static str>,
        /// Every known name, comma separated.
        known: String,
    },
    /// A reward has no parameter of this name.
    #[error("reward `{reward}` has no parameter `{key}`; {expected}")]
    UnknownParameter {
        /// The reward.
        reward: &'static str,
        /// The parameter that was given.
        key: String,
        /// What it does accept.
        expected: String,
    },
    /// A parameter is given twice.
    #[error("reward `{reward}`: parameter `{key}` is given twice")]
    RepeatedParameter {
        /// The reward.
        reward: &'static str,
        /// The parameter.
        key: String,
    },
    /// A parameter's value, or a combination of values, makes no sense.
    #[error("reward `{reward}`: expected {expected}, found `{found}`")]
    InvalidParameter {
        /// The reward.
        reward: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// A reward weight is not a finite number.
    #[error("reward `{reward}`: expected a finite weight, found `{found}`")]
    InvalidWeight {
        /// The reward.
        reward: String,
        /// What came.
        found: String,
    },
    /// An empty list of rewards, or an empty entry of one.
    #[error("expected the name of a reward in `{list}`, found nothing; known rewards: {known}")]
    EmptyReward {
        /// The list as given.
        list: String,
        /// Every known name, comma separated.
        known: String,
    },
    /// The pattern of a `regex` reward does not compile.
    #[error("reward `regex`: the pattern `{pattern}` does not compile")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What the regex compiler said.
        #[source]
        source: Box<regex::Error>,
    },
    /// The program of a `command` reward could not be started.
    #[error("reward command `{program}` could not be started")]
    CommandStart {
        /// The program.
        program: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The program of a `command` reward keeps ending instead of answering.
    #[error("reward command `{program}` ended ({status}) instead of answering; last line on stderr: {stderr}")]
    CommandEnded {
        /// The program.
        program: String,
        /// Exit code or signal.
        status: String,
        /// The last line it wrote to stderr, or `(none)`.
        stderr: String,
    },
    /// The program of a `command` reward overran its deadline several times in a row.
    #[error(
        "reward command `{program}` gave no reply within {seconds} s, {times} times in a row (does it flush its output after every line?); last line on stderr: {stderr}"
    )]
    CommandTimeout {
        /// The program.
        program: String,
        /// The deadline of one item, in seconds.
        seconds: f64,
        /// How often in a row.
        times: u32,
        /// The last line it wrote to stderr, or `(none)`.
        stderr: String,
    },
    /// The program of a `command` reward wrote a line that is not a reply.
    #[error("reward command `{program}`, output line {line}: {reason}: `{text}`")]
    CommandOutput {
        /// The program.
        program: String,
        /// Line of its output since it was started, from 1.
        line: u64,
        /// What was expected and what came.
        reason: String,
        /// The beginning of the line.
        text: String,
    },
    /// A task cannot hold out so many problems.
    #[error("expected between 1 and {most} held-out problems, found {asked}")]
    HeldOut {
        /// What was asked.
        asked: usize,
        /// The most the task can hold out.
        most: usize,
    },
}
