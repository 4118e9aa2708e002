//! Flags of a reward that a hosted model gives.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// Who grades, by what, and how often.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Judge")]
pub(crate) struct JudgeOptions {
    /// Hosted model that grades completions, as a reward called judge beside those of --reward: ollama:MODEL, openai:MODEL, ..
    #[arg(long, value_name = "TARGET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) judge: Option<String>,
    /// What makes an answer good
    #[arg(long, value_name = "TEXT", requires = "judge", conflicts_with = "rubric_file")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rubric: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE", requires = "judge")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rubric_file: Option<PathBuf>,
    /// Weight of the judge's reward, which is between 0 and 1
    #[arg(long, value_name = "W", default_value_t = 1.0)]
    pub(crate) judge_weight: f64,
    /// Calls for each completion
    #[arg(long, value_name = "N", default_value = "3")]
    pub(crate) judge_votes: NonZeroUsize,
    /// How votes become a grade: median, or the grade that most of them give (majority); else the judge abstains
    #[arg(long, value_name = "RULE", default_value = "median", hide_possible_values = true)]
    pub(crate) judge_vote: VoteRule,
    /// With the median: abstain where votes are further apart than this, on a scale of 0 to 10
    #[arg(long, value_name = "POINTS", default_value_t = 3)]
    pub(crate) judge_spread: u8,
    /// Most tokens of a verdict; models that reason need more
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(crate) judge_max_tokens: NonZeroU32,
    /// End the run, with what was learned by then, once so many calls of it were answered
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) judge_max_calls: Option<usize>,
}

/// How votes become one grade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VoteRule {
    /// The one in the middle
    Median,
    /// The one that more than half give
    Majority,
}
