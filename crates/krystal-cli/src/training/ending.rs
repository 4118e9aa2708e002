//! How a run ends on the screen.

use std::path::Path;

use krystal::grpo::{RunDir, TrainSummary};
use serde_json::{Value, json};

use super::outcome::{Outcome, Passed};
use super::watch::Watch;
use crate::terminal::Terminal;

/// What there is to tell about a GRPO run.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) summary: &'a TrainSummary,
    pub(crate) watch: &'a Watch,
    /// Whether the run started from the reference itself.
    pub(crate) is_fresh: bool,
    /// Divergence from the reference, nats per token.
    pub(crate) kl: Option<f64>,
    pub(crate) run: &'a RunDir,
    /// Folder of the adapter or the model.
    pub(crate) trained: &'a Path,
    /// The command to try next.
    pub(crate) next: String,
    /// What the judge did, if there was one.
    pub(crate) judge: Option<(String, Value)>,
    pub(crate) seconds: f64,
}

impl Ending<'_> {
    /// The table for people, or the object for programs.
    pub(crate) fn show(&self, terminal: Terminal) {
        if terminal.json {
            terminal.json(&self.json());
        } else {
            self.table().iter().for_each(|line| terminal.line(line));
        }
    }

    fn table(&self) -> Vec<String> {
        let mut lines = vec![row("", "before", "after", "")];
        let Outcome { before, after, rewards } = self.outcome;
        if before.is_some() || after.is_some() {
            let text = |passed: Option<Passed>| passed.map_or_else(|| "-".to_owned(), |passed| passed.to_string());
            let n = after.or(before).map_or(0, |passed| passed.n);
            lines.push(row("held-out pass@1", &text(before), &text(after), &format!("{n} problems, 95 % intervals")));
        }
        if let Some((first, last)) = rewards {
            lines.push(row("reward", &format!("{first:.3}"), &format!("{last:.3}"), "first and last step"));
        }
        if let Some(kl) = self.kl {
            let before = if self.is_fresh { "0" } else { "-" };
            lines.push(row("KL", before, &format!("{kl:.4}"), "nats per token, from the base model"));
        }
        let mut fact = |name: &str, text: String| lines.push(format!("{name:16} {text}"));
        if let Some(rate) = self.watch.tokens_per_second() {
            fact("speed", format!("{rate:.0} tokens/s"));
        }
        if let Some((text, _)) = &self.judge {
            fact("judge", text.clone());
        }
        fact("time", format!("{:.1} s", self.seconds));
        fact("run directory", self.run.path().display().to_string());
        let TrainSummary { step, total_steps, .. } = self.summary;
        if step < total_steps {
            let run = self.run.path().display();
            fact("stopped", format!("after step {step} of {total_steps}; to go on: krystal train --resume {run}"));
        }
        fact("next", self.next.clone());
        lines
    }

    fn json(&self) -> Value {
        let passed = |passed: Option<Passed>| passed.map(Passed::json);
        json!({
            "eval_before": passed(self.outcome.before),
            "eval_after": passed(self.outcome.after),
            "reward_first": self.outcome.rewards.map(|(first, _)| first),
            "reward_last": self.outcome.rewards.map(|(_, last)| last),
            "kl": self.kl,
            "steps": self.summary.step,
            "total_steps": self.summary.total_steps,
            "num_tokens": self.summary.num_tokens,
            "tokens_per_second": self.watch.tokens_per_second(),
            "judge": self.judge.as_ref().map(|(_, object)| object),
            "seconds": self.seconds,
            "run_dir": self.run.path(),
            "trained": self.trained,
        })
    }
}

fn row(name: &str, before: &str, after: &str, note: &str) -> String {
    format!("{name:16} {before:26} {after:26} {note}").trim_end().to_owned()
}
