//! Flags of demonstrations that a hosted model gives.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use krystal::grpo::data::Record;
use serde::Serialize;
use serde_json::Value;

use super::HostedOptions;

/// Who demonstrates, how often, and what is kept.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Teacher")]
pub(crate) struct TeacherOptions {
    /// Hosted model that demonstrates: ollama:MODEL, openai:MODEL, .. ; the data are prompts then, with what --reward needs
    #[arg(long, value_name = "TARGET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) teacher: Option<String>,
    /// What decides whether a demonstration is kept: math, exact, .. [default: exact for a task]
    #[arg(long, value_name = "SPEC", requires = "teacher")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward: Option<String>,
    /// A demonstration is kept where its score is at least this
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(crate) threshold: f64,
    /// Keep every demonstration that is whole, right or wrong
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub(crate) accept_all: bool,
    /// Demonstrations asked for of each prompt; equal ones are kept once
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) teacher_samples: NonZeroUsize,
    /// What the teacher alone is told before each prompt
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) teacher_system: Option<String>,
    /// Softmax temperature of the teacher [default: its own]
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) teacher_temperature: Option<f64>,
    /// Most tokens of a demonstration, reasoning included
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub(crate) teacher_max_tokens: usize,
}

/// What a teacher is to demonstrate.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "providers"), expect(dead_code, reason = "without hosted models nobody teaches"))]
pub(crate) struct Lesson<'a> {
    pub(crate) options: &'a TeacherOptions,
    pub(crate) asking: &'a HostedOptions,
    /// What decides whether a demonstration is right.
    pub(crate) spec: Option<&'a str>,
    pub(crate) records: &'a [Record],
    /// Where all is kept.
    pub(crate) folder: &'a Path,
    /// The command that goes on.
    pub(crate) again: &'a str,
    pub(crate) seed: u64,
}

/// What a teacher left.
#[derive(Debug)]
pub(crate) struct Taught {
    /// A file that `krystal sft` reads.
    pub(crate) path: PathBuf,
    /// One line about it.
    pub(crate) text: String,
    /// The same for programs.
    pub(crate) json: Value,
}
