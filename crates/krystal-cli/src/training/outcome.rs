//! What a run has achieved, read from its own records: so that a resumed run tells the whole story.

use anyhow::Context;
use krystal::grpo::RunDir;
use serde_json::{Value, json};

/// pass@1 of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Passed {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) n: u64,
}

/// Evaluations and rewards of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Outcome {
    /// Before the first step.
    pub(crate) before: Option<Passed>,
    /// After the last step.
    pub(crate) after: Option<Passed>,
    /// Mean reward of the first and of the last step.
    pub(crate) rewards: Option<(f64, f64)>,
}

impl Outcome {
    /// Reads `metrics.jsonl`.
    pub(crate) fn of(run: &RunDir) -> anyhow::Result<Self> {
        let path = run.metrics_path();
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        Ok(Self::of_lines(&text))
    }

    fn of_lines(text: &str) -> Self {
        let mut outcome = Self::default();
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let number = |key: &str| line[key].as_f64();
            let passed = || {
                Some(Passed {
                    value: number("eval_pass@1")?,
                    low: number("eval_pass@1_low")?,
                    high: number("eval_pass@1_high")?,
                    n: number("eval_n")? as u64,
                })
            };
            if let Some(reward) = number("reward") {
                outcome.rewards = Some((outcome.rewards.map_or(reward, |(first, _)| first), reward));
            }
            match passed() {
                Some(passed) if line["step"] == 0 => outcome.before = Some(passed),
                Some(passed) => outcome.after = Some(passed),
                None => {}
            }
        }
        outcome
    }
}

impl Passed {
    /// As JSON.
    pub(crate) fn json(self) -> Value {
        json!({ "pass@1": self.value, "n": self.n, "low": self.low, "high": self.high })
    }
}

impl std::fmt::Display for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}, {}]", percent(self.value), percent(self.low), percent(self.high))
    }
}

/// A share as people read it.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_evaluation_count() {
        let line = |step: u64, pass: f64| {
            format!(
                "{{\"step\":{step},\"eval_pass@1\":{pass},\"eval_pass@1_low\":0.1,\"eval_pass@1_high\":0.9,\"eval_n\":40.0}}\n"
            )
        };
        let text = format!(
            "{}{{\"step\":1,\"reward\":0.5}}\n{}{{\"step\":3,\"reward\":0.7}}\n{}",
            line(0, 0.25),
            line(2, 0.5),
            line(4, 0.75)
        );
        let outcome = Outcome::of_lines(&text);
        assert_eq!(outcome.rewards, Some((0.5, 0.7)));
        assert_eq!(outcome.before.map(|p| (p.value, p.n)), Some((0.25, 40)));
        assert_eq!(outcome.after.map(|p| p.to_string()), Some("75.0 % [10.0 %, 90.0 %]".to_owned()));
        assert_eq!(Outcome::of_lines("{\"step\":1}\nnot json\n"), Outcome::default());
    }
}
