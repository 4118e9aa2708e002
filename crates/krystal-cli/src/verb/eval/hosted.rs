//! Answers of a hosted model.

use std::path::Path;
use std::time::Instant;

use krystal::grpo::data::Record;
use krystal::grpo::evaluate::{PassAtK, pass_at_k};
use krystal::grpo::reward::{Reward, RewardInput};
use krystal::grpo::{Evaluation, RewardFunction};
use krystal::math::statistics::{mean, wilson_interval};
use krystal::verify::{ProblemSet, RewardSpec};
use serde_json::json;

use super::Options;
use super::summary::{Completions, Summary};
use crate::cli::Global;
use crate::failure::usage;
use crate::hosted::{Answer, Asked, Draws, Hosted, Journal, Question, ask_showing};
use crate::terminal::Terminal;
use crate::training::{PromptOptions, check_golds, one_reward};

pub(super) fn run(options: &Options, target: &str, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let started = Instant::now();
    let hosted = Hosted::connect(target, &options.hosted)?;
    let problems = Problems::new(options, global, terminal)?;
    let draws = options.draws(global);
    let questions: Vec<(&Hosted, Question)> =
        draws.questions(&hosted, &problems.records)?.into_iter().map(|question| (&hosted, question)).collect();
    let mut journal = Journal::open(&options.answers)?;
    let asked = ask_showing(&questions, &mut journal, &options.hosted, "the same command", terminal)?;
    let answers = asked.answers().map(|(place, answer)| (place, place / draws.samples, answer)).collect();
    let scored = problems.score(answers)?;
    if let Some(path) = &options.sampling.out {
        write(path, &scored, &asked, draws.samples, options.threshold)?;
    }
    let evaluation = problems.evaluation(&scored, draws.samples, &options.sampling.k, options.threshold);
    let mut summary = Summary::new(terminal);
    summary.evaluation(&evaluation, started.elapsed().as_secs_f64());
    tell(&mut summary, &asked, &scored);
    summary.field("provider", json!(target));
    summary.end();
    Ok(())
}

impl Options {
    pub(super) fn draws(&self, global: &Global) -> Draws {
        let sampling = &self.sampling;
        Draws {
            samples: sampling.samples,
            max_tokens: sampling.max_completion_length,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            stop: sampling.stop.clone(),
            system: None,
            seed: global.seed,
        }
    }
}

/// What is to be solved, and what decides.
pub(super) struct Problems {
    pub(super) records: Vec<Record>,
    reward: Box<dyn RewardFunction>,
    max_tokens: usize,
}

/// An answer with its score.
pub(super) struct Scored<'a> {
    /// Which question it answers.
    pub(super) place: usize,
    pub(super) answer: &'a Answer,
    pub(super) reward: Reward,
}

impl Problems {
    /// Reads what the flags name.
    pub(super) fn new(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<Self> {
        let spec = options.spec()?;
        let (parsed, reward) = one_reward(spec)?;
        if let RewardSpec::SoftOverlong { .. } | RewardSpec::Repetition { .. } = parsed {
            let name = parsed.name();
            return Err(usage(format!("reward `{name}` counts tokens, and a hosted model gives text alone")));
        }
        options.config(global).validate()?;
        // A hosted model knows messages alone.
        let prompts = PromptOptions { chat: true, ..options.prompts.clone() };
        let records = prompts.records(ProblemSet::HeldOut, global.seed)?;
        check_golds(spec, &records, terminal)?;
        Ok(Self { records, reward, max_tokens: options.sampling.max_completion_length })
    }

    /// Scores answers: the question that each answers, its record, and the answer.
    pub(super) fn score<'a>(&self, answers: Vec<(usize, usize, &'a Answer)>) -> anyhow::Result<Vec<Scored<'a>>> {
        let inputs: Vec<RewardInput<'_>> = answers
            .iter()
            .map(|(_, record, answer)| {
                let record = &self.records[*record];
                RewardInput {
                    prompt: &record.prompt,
                    completion: &answer.text,
                    tokens: &[],
                    truncated: answer.is_cut(),
                    max_completion_length: self.max_tokens,
                    columns: &record.columns,
                }
            })
            .collect();
        let rewards = self.reward.score(&inputs)?;
        let scored = answers.into_iter().zip(rewards);
        Ok(scored.map(|((place, _, answer), reward)| Scored { place, answer, reward }).collect())
    }

    /// pass@k. Of a problem with fewer answers than asked for (the others failed) those that came count; one with fewer than `k`
    /// is not in pass@k.
    fn evaluation(&self, scored: &[Scored<'_>], samples: usize, ks: &[usize], threshold: f64) -> Evaluation {
        let mut counts = vec![(0, 0); self.records.len()];
        for Scored { place, reward, .. } in scored {
            let (n, passed) = &mut counts[place / samples];
            *n += 1;
            *passed += usize::from(passes(reward, threshold));
        }
        let pass_at = ks.iter().map(|&k| {
            let enough = counts.iter().filter(|(n, _)| *n >= k);
            let estimates: Vec<f64> = enough.map(|&(n, passed)| pass_at_k(n, passed, k)).collect();
            let value = if estimates.is_empty() { 0.0 } else { mean(&estimates) };
            let (low, high) = wilson_interval(value, estimates.len());
            PassAtK { k, value, low, high }
        });
        let scores: Vec<f64> = scored.iter().filter_map(|scored| scored.reward.score).collect();
        let lengths: Vec<f64> = scored.iter().filter_map(|scored| Some(scored.answer.output_tokens? as f64)).collect();
        let n_cut = scored.iter().filter(|scored| scored.answer.is_cut()).count();
        Evaluation {
            n: self.records.len(),
            num_samples: samples,
            pass_at: pass_at.collect(),
            mean_reward: (!scores.is_empty()).then(|| mean(&scores)),
            n_abstained: scored.len() - scores.len(),
            mean_length: if lengths.is_empty() { 0.0 } else { mean(&lengths) },
            clipped_ratio: n_cut as f64 / scored.len().max(1) as f64,
            passed: counts.into_iter().map(|(_, passed)| passed).collect(),
        }
    }
}

/// Whether a score is enough; an abstention is not.
pub(super) fn passes(reward: &Reward, threshold: f64) -> bool {
    reward.score.is_some_and(|score| score >= threshold)
}

/// What there is to say about answers beside their scores.
fn tell(summary: &mut Summary, asked: &Asked, scored: &[Scored<'_>]) {
    let n = asked.outcomes.len();
    let new = scored.len() - asked.kept;
    summary.line("answers", &format!("{} of {n}, {} from before, {new} new", scored.len(), asked.kept));
    let failures = asked.failures();
    if !failures.is_empty() {
        let kinds: Vec<String> = failures.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let first = asked.first_failure().map_or_else(String::new, |failure| format!("; the first: {failure}"));
        let kinds = kinds.join(", ");
        summary.line("failed", &format!("{kinds}; not scored, the same command asks again{first}"));
    }
    let declined = scored.iter().filter(|scored| scored.answer.is_declined()).count();
    if declined > 0 {
        summary.line("declined", &declined.to_string());
    }
    summary.line("tokens", &asked.spending.text());
    let empty = scored.iter().filter(|scored| scored.answer.is_cut() && scored.answer.text.is_empty()).count();
    if empty > 0 {
        summary
            .line("note", &format!("{empty} cut before a word: raise --max-completion-length for models that reason"));
    }
    summary.field("answers", json!(scored.len()));
    summary.field("kept", json!(asked.kept));
    summary.field("failed", json!(failures));
    summary.field("declined", json!(declined));
    for (name, value) in asked.spending.json() {
        summary.field(name, value);
    }
}

/// Writes every answer, in the order of the questions.
fn write(path: &Path, scored: &[Scored<'_>], asked: &Asked, samples: usize, threshold: f64) -> anyhow::Result<()> {
    let mut out = Completions::create(path)?;
    let mut scored = scored.iter().peekable();
    for (place, outcome) in asked.outcomes.iter().enumerate() {
        let (index, sample) = (place / samples, place % samples);
        match (outcome, scored.next_if(|scored| scored.place == place)) {
            (_, Some(Scored { answer, reward, .. })) => out.write(&json!({
                "index": index, "sample": sample, "completion": answer.text, "score": reward.score,
                "passed": passes(reward, threshold), "finish": answer.stop, "model": answer.model, "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens, "cost_usd": answer.cost_usd,
            })),
            (Some(Err(failure)), _) => out.write(&json!({
                "index": index, "sample": sample, "completion": null, "score": null, "failure": failure.kind,
                "reason": failure.message,
            })),
            _ => {}
        }
    }
    out.close()
}
