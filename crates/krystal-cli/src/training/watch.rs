//! A run, as it is shown while it goes on.

use std::time::Instant;

use krystal::grpo::lm::Ranks;
use krystal::grpo::{Clock, Evaluation, Observer, StepMetrics};

use super::outcome::percent;
use crate::interrupt;
use crate::progress::Progress;
use crate::terminal::Terminal;

/// Shows every step, and keeps what the table at the end needs.
#[derive(Debug)]
pub(crate) struct Watch {
    terminal: Terminal,
    label: &'static str,
    progress: Option<Progress>,
    evaluation: String,
    rates: Vec<f64>,
    ranks: Ranks,
}

impl Watch {
    pub(crate) fn new(label: &'static str, terminal: Terminal, ranks: &Ranks) -> Self {
        Self { terminal, label, progress: None, evaluation: String::new(), rates: Vec::new(), ranks: ranks.clone() }
    }

    /// Mean tokens per second over the steps, where there were any.
    pub(crate) fn tokens_per_second(&self) -> Option<f64> {
        (!self.rates.is_empty()).then(|| self.rates.iter().sum::<f64>() / self.rates.len() as f64)
    }

    /// Takes the bar away.
    pub(crate) fn end(&mut self) {
        self.progress = None;
    }
}

impl Observer for Watch {
    fn on_start(&mut self, step: u64, total_steps: u64) {
        interrupt::listen("stopping after this step, with a checkpoint; once more to end at once");
        let mut progress = self.terminal.progress(self.label, total_steps as usize);
        progress.set(step as usize, "");
        self.progress = Some(progress);
    }

    fn on_step(&mut self, metrics: &StepMetrics) {
        self.rates.extend(metrics.get("tokens_per_second"));
        let shown = [("reward", "reward"), ("kl", "kl"), ("loss", "loss"), ("tokens/s", "tokens_per_second")];
        let mut text: Vec<String> = shown
            .into_iter()
            .filter_map(|(name, key)| {
                let value = metrics.get(key)?;
                Some(if key == "tokens_per_second" {
                    format!("{value:.0} {name}")
                } else {
                    format!("{name} {value:.3}")
                })
            })
            .collect();
        if !self.evaluation.is_empty() {
            text.push(self.evaluation.clone());
        }
        if let Some(progress) = &mut self.progress {
            progress.set(metrics.step as usize, &text.join("  "));
        }
    }

    fn on_evaluation(&mut self, step: u64, evaluation: &Evaluation) {
        if let Some(pass) = evaluation.pass(1) {
            self.evaluation = format!("pass@1 {}", percent(pass.value));
            if let Some(progress) = &mut self.progress {
                progress.set(step as usize, &self.evaluation);
            }
        }
    }

    fn on_warning(&mut self, message: &str) {
        match &self.progress {
            Some(progress) => progress.line(&format!("warning: {message}")),
            None => self.terminal.note(&format!("warning: {message}")),
        }
    }

    /// All ranks stop after the same step, or none; one that has lost the others has no next step.
    fn should_stop(&self) -> bool {
        self.ranks.any(interrupt::heard()).unwrap_or(true)
    }
}

/// Seconds since now, for the trainers, which read no clock of their own.
pub(crate) fn clock() -> Clock {
    let started = Instant::now();
    Box::new(move || started.elapsed().as_secs_f64())
}
