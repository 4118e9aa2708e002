//! What a build without hosted models has in their place: refusals.

use std::convert::Infallible;
use std::path::Path;

use krystal::grpo::RewardFunction;
use serde_json::Value;

use super::{HostedOptions, JudgeOptions, Lesson, Taught, TeacherOptions};
use crate::failure::usage;
use crate::terminal::Terminal;

/// The error for a flag that needs hosted models.
pub(crate) fn left_out<T>(flag: &str) -> anyhow::Result<T> {
    Err(usage(format!(
        "{flag}: this krystal was built without hosted models: cargo install krystal-cli --features providers builds one with them"
    )))
}

/// A judge that cannot be.
#[derive(Debug, Clone)]
pub(crate) struct Judge(Infallible);

impl Judge {
    pub(crate) fn of(options: &JudgeOptions, _: &HostedOptions, _: u64) -> anyhow::Result<Option<Self>> {
        if options.judge.is_some() { left_out("--judge") } else { Ok(None) }
    }

    pub(crate) fn keep_in(&self, _: &Path) -> anyhow::Result<()> {
        match self.0 {}
    }

    pub(crate) fn reward(&self) -> Box<dyn RewardFunction> {
        match self.0 {}
    }

    pub(crate) fn report(&self) -> (String, Value) {
        match self.0 {}
    }
}

pub(crate) fn check(_: &TeacherOptions, _: &HostedOptions, _: Option<&str>) -> anyhow::Result<()> {
    left_out("--teacher")
}

pub(crate) fn draw(_: Lesson<'_>, _: Terminal) -> anyhow::Result<Taught> {
    left_out("--teacher")
}

pub(crate) fn detected() -> (bool, String, Value) {
    (false, "this krystal was built without the feature `providers`".to_owned(), Value::Null)
}
