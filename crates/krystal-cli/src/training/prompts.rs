//! Prompts to train and evaluate on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use krystal::grpo::data::{Message, Prompt, Record, read_jsonl};
use krystal::grpo::verify::VerifierReward;
use krystal::grpo::{Policy, RewardFunction};
use krystal::math::permutation;
use krystal::math::rng::Purpose;
use krystal::verify::{Arithmetic, ProblemSet, RewardSpec, Sample, Task, parse_rewards};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::usage;
use crate::terminal::Terminal;

/// Built-in tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskName {
    /// Sums and differences of two-digit numbers
    Arithmetic,
}

/// How a file's prompts are read.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Data")]
pub(crate) struct PromptOptions {
    /// JSONL file: a prompt (text or messages) a line, and whatever columns the reward needs
    #[arg(long, value_name = "FILE.jsonl")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// A built-in task instead of a file: `arithmetic`
    #[arg(long, value_name = "NAME", conflicts_with = "data", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<TaskName>,
    /// Column of the prompt [default: prompt, or else question]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_column: Option<String>,
    /// Take text prompts for users' messages and render them by the model's chat template
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub(crate) chat: bool,
    /// What the model is told before each conversation
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
    /// Text around a text prompt, which stands in it as {}
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    /// Read this many records at most
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    /// Leave out prompts of more tokens [default: what leaves room for a completion]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_prompt_length: Option<usize>,
}

impl PromptOptions {
    /// Records of the file or the task, as prompts for a model. Problems of a task are split by `seed` into 1,000 that are held
    /// out and the rest.
    pub(crate) fn records(&self, set: ProblemSet, seed: u64) -> anyhow::Result<Vec<Record>> {
        let records = match (&self.data, self.task) {
            (Some(path), _) => read_jsonl(path, self.prompt_column.as_deref())?,
            (None, Some(TaskName::Arithmetic)) => task_records(&Arithmetic::new(seed, 1_000)?, set),
            (None, None) => return Err(usage("no prompts: expected --data FILE.jsonl or --task NAME")),
        };
        self.prepared(records)
    }

    /// Prompts of another file, read the same way.
    pub(crate) fn records_of(&self, path: &std::path::Path) -> anyhow::Result<Vec<Record>> {
        self.prepared(read_jsonl(path, self.prompt_column.as_deref())?)
    }

    fn prepared(&self, mut records: Vec<Record>) -> anyhow::Result<Vec<Record>> {
        if let Some(template) = &self.template
            && !template.contains("{}")
        {
            return Err(usage(format!("--template must hold {{}} where the prompt goes, not {template:?}")));
        }
        if self.limit == Some(0) {
            return Err(usage("--limit must be at least 1"));
        }
        records.truncate(self.limit.unwrap_or(usize::MAX));
        for record in &mut records {
            if let Prompt::Text(text) = &mut record.prompt {
                if let Some(template) = &self.template {
                    *text = template.replacen("{}", text, 1);
                }
                if self.chat {
                    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
                    record.prompt = Prompt::Messages(vec![message("user", text)]);
                }
            }
            if let (Prompt::Messages(messages), Some(system)) = (&mut record.prompt, &self.system) {
                messages.insert(0, Message { role: "system".into(), content: system.clone() });
            }
        }
        Ok(records)
    }
}

fn task_records(task: &dyn Task, set: ProblemSet) -> Vec<Record> {
    let problems = (0..task.n_problems(set)).filter_map(|i| Some((task.prompt(set, i)?, task.answer(set, i)?)));
    problems
        .map(|(prompt, answer)| {
            let columns = Map::from_iter([("answer".to_owned(), Value::String(answer))]);
            Record { prompt: Prompt::Text(prompt), columns }
        })
        .collect()
}

/// Leaves out records whose prompts have more than `most` tokens, and says how many.
pub(crate) fn drop_long<P: Policy>(
    policy: &P,
    records: Vec<Record>,
    most: usize,
    terminal: Terminal,
) -> anyhow::Result<Vec<Record>> {
    let all = records.len();
    let mut kept = Vec::with_capacity(all);
    for record in records {
        if policy.encode_prompt(&record.prompt)?.len() <= most {
            kept.push(record);
        }
    }
    if kept.is_empty() {
        bail!(
            "all {all} prompts have more than {most} tokens: raise --max-prompt-length or lower --max-completion-length"
        );
    }
    if kept.len() < all {
        terminal.note(&format!("left out {} of {all} prompts of more than {most} tokens", all - kept.len()));
    }
    Ok(kept)
}

/// Takes `size` records out at random: those to train on, and those held out, both in their order. The choice depends on the
/// numbers alone and not on the seed of the run, so that runs of several seeds can be compared.
pub(crate) fn hold_out<T>(records: Vec<T>, size: usize) -> (Vec<T>, Vec<T>) {
    let order = permutation(records.len(), 0, Purpose::Evaluation, 0);
    let chosen: BTreeSet<usize> = order.into_iter().take(size).collect();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (i, record) in records.into_iter().enumerate() {
        if chosen.contains(&i) { held_out.push(record) } else { train.push(record) }
    }
    (train, held_out)
}

/// The one reward of a specification: what passes and what does not.
pub(crate) fn one_reward(spec: &str) -> anyhow::Result<(RewardSpec, Box<dyn RewardFunction>)> {
    let mut rewards = parse_rewards(spec)?;
    if rewards.len() != 1 {
        return Err(usage(format!("expected one reward to pass or fail by, found {} in `{spec}`", rewards.len())));
    }
    let reward = rewards.remove(0).reward;
    let built: Box<dyn RewardFunction> = Box::new(VerifierReward::new(reward.build()?));
    Ok((reward, built))
}

/// Refuses data whose gold answers the rewards of `spec` cannot read at all; notes where some cannot be read.
pub(crate) fn check_golds(spec: &str, records: &[Record], terminal: Terminal) -> anyhow::Result<()> {
    for reward in parse_rewards(spec)? {
        // Only these look at a gold answer and at nothing else that could make them abstain.
        if !["exact", "numeric", "math"].contains(&reward.reward.name()) {
            continue;
        }
        let verifier = reward.reward.build()?;
        let judge = |record: &Record| {
            let columns = &record.columns;
            let sample =
                Sample { prompt: "", completion: "", tokens: &[], truncated: false, max_completion_length: 1, columns };
            verifier.verify(&sample).reason().map(str::to_owned)
        };
        let reasons: Vec<String> = records.iter().filter_map(judge).collect();
        if let Some(reason) = reasons.first() {
            let name = reward.reward.name();
            if reasons.len() == records.len() {
                bail!("reward `{name}` cannot judge any of the {} records: {reason}", records.len());
            }
            let count = reasons.len();
            terminal.note(&format!("reward `{name}` cannot judge {count} of {} records: {reason}", records.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_records_are_no_pattern() {
        let (train, held_out) = hold_out((0..1_000).collect(), 100);
        assert_eq!((train.len(), held_out.len()), (900, 100));
        assert!(held_out.is_sorted() && train.is_sorted() && !held_out.iter().any(|i| train.contains(i)));
        // Ten classes in turn: each is hit, none is hit alone.
        let mut classes = [0; 10];
        held_out.iter().for_each(|i: &usize| classes[i % 10] += 1);
        assert!(classes.iter().all(|n| (1..30).contains(n)), "{classes:?}");
        assert_eq!(hold_out(vec![1, 2], 0), (vec![1, 2], vec![]));
    }
}
