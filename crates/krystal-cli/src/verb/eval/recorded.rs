//! Answers that were recorded.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use krystal::verify::{GoldColumn, RewardSpec, Sample, Verifier};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Options;
use crate::failure::usage;
use crate::terminal::Terminal;
use crate::training::{one_reward, percent};

/// Disagreements with labels that are printed.
const SHOWN: usize = 10;

/// Where recorded answers are.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Recorded answers")]
pub(crate) struct RecordedOptions {
    /// JSONL file of answers to judge
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["data", "task"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completions: Option<PathBuf>,
    /// Columns of the answers, separated by commas or given more than once
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "completion")]
    pub(crate) completion_column: Vec<String>,
    /// Column of the right answer [default: answer, ground_truth, target or solution]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gold_column: Option<String>,
    /// Columns that say whether an answer is right, one for each column of answers
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) label_column: Vec<String>,
}

/// Counts of one column of answers.
#[derive(Debug, Clone, Default)]
struct Count {
    column: String,
    n: usize,
    passed: usize,
    abstained: usize,
    labelled: usize,
    agree: usize,
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.n += other.n;
        self.passed += other.passed;
        self.abstained += other.abstained;
        self.labelled += other.labelled;
        self.agree += other.agree;
    }

    fn accuracy(&self) -> Option<f64> {
        (self.n > 0).then(|| self.passed as f64 / self.n as f64)
    }

    fn json(&self) -> Map<String, Value> {
        let (low, high) = self.interval();
        let fields = [
            ("n", json!(self.n)),
            ("passed", json!(self.passed)),
            ("accuracy", json!(self.accuracy())),
            ("low", json!(low)),
            ("high", json!(high)),
            ("abstained", json!(self.abstained)),
            ("labelled", json!(self.labelled)),
            ("agree", json!(self.agree)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn interval(&self) -> (f64, f64) {
        krystal::math::statistics::wilson_interval(self.accuracy().unwrap_or(0.0), self.n)
    }

    fn line(&self, name: &str, width: usize) -> String {
        let (low, high) = self.interval();
        let agree = if self.labelled > 0 {
            format!(", {} of {} labels agreed with", self.agree, self.labelled)
        } else {
            String::new()
        };
        let abstained =
            if self.abstained > 0 { format!(", {} without a verdict", self.abstained) } else { String::new() };
        format!(
            "{name:width$}  {:>6} of {:<6} {:>7} [{}, {}]{abstained}{agree}",
            self.passed,
            self.n,
            percent(self.accuracy().unwrap_or(0.0)),
            percent(low),
            percent(high),
        )
    }
}

pub(super) fn run(options: &Options, path: &Path, terminal: Terminal) -> anyhow::Result<()> {
    let RecordedOptions { completion_column, gold_column, label_column, .. } = &options.recorded;
    if !label_column.is_empty() && label_column.len() != completion_column.len() {
        return Err(usage(format!(
            "expected a --label-column for each of {} columns of answers, found {}",
            completion_column.len(),
            label_column.len()
        )));
    }
    let (spec, _) = one_reward(options.spec()?)?;
    let verifier = with_gold(spec, gold_column.as_deref()).build()?;
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let lines: Vec<(usize, &str)> =
        (1..).zip(text.trim_start_matches('\u{feff}').lines()).filter(|(_, line)| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        bail!("{}: expected at least one record, found none", path.display());
    }
    let mut counts: Vec<Count> =
        completion_column.iter().map(|column| Count { column: column.clone(), ..Count::default() }).collect();
    let mut disagreements = Vec::new();
    let mut reason = None;
    let mut progress = terminal.progress("judging", lines.len());
    for (done, (number, line)) in lines.iter().enumerate() {
        let place = || format!("{}:{number}", path.display());
        let record = record(line, gold_column.as_deref()).with_context(place)?;
        for (i, count) in counts.iter_mut().enumerate() {
            let completion = text_at(&record, &count.column).with_context(place)?;
            let label = label_column.get(i).map(|column| label_at(&record, column)).transpose().with_context(place)?;
            let passes = judge(verifier.as_ref(), completion, &record, options.threshold)?;
            count.n += 1;
            count.passed += usize::from(passes == Ok(true));
            if let Err(why) = &passes {
                count.abstained += 1;
                reason.get_or_insert_with(|| format!("line {number}: {why}"));
            }
            if let Some(label) = label {
                count.labelled += 1;
                count.agree += usize::from(passes == Ok(label));
                if passes != Ok(label) {
                    let verdict = match passes {
                        Ok(true) => "passes",
                        Ok(false) => "does not pass",
                        Err(_) => "has no verdict",
                    };
                    disagreements.push(format!("line {number}: {} {verdict}, the label says {label}", count.column));
                }
            }
        }
        progress.set(done + 1, "");
    }
    drop(progress);
    report(&counts, &disagreements, reason.as_deref(), terminal)
}

fn report(counts: &[Count], disagreements: &[String], reason: Option<&str>, terminal: Terminal) -> anyhow::Result<()> {
    let mut all = Count::default();
    counts.iter().for_each(|count| all.add(count));
    if all.abstained == all.n {
        bail!("no answer could be judged; {}", reason.unwrap_or_default());
    }
    let width = counts.iter().map(|count| count.column.len()).max().unwrap_or(0).max("all".len());
    for count in counts {
        terminal.line(&count.line(&count.column, width));
    }
    if counts.len() > 1 {
        terminal.line(&all.line("all", width));
    }
    if let Some(reason) = reason {
        terminal.line(&format!("the first without a verdict: {reason}"));
    }
    for text in disagreements.iter().take(SHOWN) {
        terminal.line(text);
    }
    if disagreements.len() > SHOWN {
        terminal.line(&format!("and {} more disagreements", disagreements.len() - SHOWN));
    }
    let mut object = all.json();
    let columns = counts.iter().map(|count| {
        let mut fields = Map::from_iter([("column".to_owned(), json!(count.column))]);
        fields.extend(count.json());
        Value::Object(fields)
    });
    object.insert("columns".to_owned(), columns.collect());
    terminal.json(&Value::Object(object));
    Ok(())
}

/// The reward with its gold in the named column.
fn with_gold(spec: RewardSpec, gold: Option<&str>) -> RewardSpec {
    let Some(gold) = gold else { return spec };
    let named = GoldColumn::Named(gold.to_owned());
    match spec {
        RewardSpec::Exact { .. } => RewardSpec::Exact { column: named },
        RewardSpec::Math { .. } => RewardSpec::Math { column: named },
        RewardSpec::Numeric { tolerance, .. } => RewardSpec::Numeric { column: named, tolerance },
        other => other,
    }
}

/// Whether a completion passes, or why there is no verdict.
fn judge(
    verifier: &dyn Verifier,
    completion: &str,
    columns: &Map<String, Value>,
    threshold: f64,
) -> anyhow::Result<Result<bool, String>> {
    let prompt = ["prompt", "question"].into_iter().find_map(|name| columns.get(name)?.as_str()).unwrap_or("");
    let sample =
        Sample { prompt, completion, tokens: &[], truncated: false, max_completion_length: usize::MAX, columns };
    let verdict = verifier.verify_batch(&[sample])?.swap_remove(0);
    Ok(match verdict.value() {
        Some(score) => Ok(score >= threshold),
        None => Err(verdict.reason().unwrap_or("no reason given").to_owned()),
    })
}

/// One line, with the gold at the top level under its full name.
fn record(line: &str, gold: Option<&str>) -> anyhow::Result<Map<String, Value>> {
    let mut record: Map<String, Value> = serde_json::from_str(line).context("expected a JSON object")?;
    if let Some(gold) = gold {
        let value = at(&record, gold)?.clone();
        record.insert(gold.to_owned(), value);
    }
    Ok(record)
}

/// The value of a column: the one of that very name, or else `column` of `object` for `object.column`.
fn at<'r>(record: &'r Map<String, Value>, name: &str) -> anyhow::Result<&'r Value> {
    if let Some(value) = record.get(name) {
        return Ok(value);
    }
    let mut parts = name.split('.');
    let first = parts.next().and_then(|part| record.get(part));
    match parts.try_fold(first, |value, part| value.map(|value| value.get(part))).flatten() {
        Some(value) => Ok(value),
        None => {
            let names: Vec<String> = record.keys().map(|key| format!("`{key}`")).collect();
            bail!("expected a column `{name}`, found {}", names.join(", "))
        }
    }
}

fn text_at<'r>(record: &'r Map<String, Value>, name: &str) -> anyhow::Result<&'r str> {
    let value = at(record, name)?;
    value.as_str().with_context(|| format!("column `{name}`: expected text, found {value}"))
}

fn label_at(record: &Map<String, Value>, name: &str) -> anyhow::Result<bool> {
    match at(record, name)? {
        Value::Bool(label) => Ok(*label),
        Value::Number(number) if [Some(0.0), Some(1.0)].contains(&number.as_f64()) => Ok(number.as_f64() == Some(1.0)),
        value => bail!("column `{name}`: expected true or false, found {value}"),
    }
}
