//! Demonstrations of a hosted model.

use std::collections::BTreeSet;

use krystal::checkpoint::write_atomically;
use krystal::grpo::RewardFunction;
use krystal::grpo::data::{Prompt, Record};
use krystal::grpo::reward::RewardInput;
use serde_json::{Value, json};

use super::{Answer, Draws, Hosted, HostedOptions, Journal, Lesson, Question, Taught, TeacherOptions, ask_showing};
use crate::failure::usage;
use crate::terminal::Terminal;
use crate::training::{one_reward, percent};

/// What became of answers.
#[derive(Debug, Default, Clone, PartialEq)]
struct Counts {
    kept: usize,
    refused: usize,
    no_verdict: usize,
    cut: usize,
    declined: usize,
    repeated: usize,
}

/// Refuses what cannot be asked for, before there is a folder.
pub(crate) fn check(options: &TeacherOptions, asking: &HostedOptions, spec: Option<&str>) -> anyhow::Result<()> {
    prepared(options, asking, spec).map(|_| ())
}

/// What decides, where not everything is kept, and who is asked.
fn prepared(
    options: &TeacherOptions,
    asking: &HostedOptions,
    spec: Option<&str>,
) -> anyhow::Result<(Option<Box<dyn RewardFunction>>, Hosted)> {
    let verifier = match (options.accept_all, spec) {
        (true, _) => None,
        (false, Some(spec)) => Some(one_reward(spec)?.1),
        (false, None) => {
            return Err(usage(
                "nothing decides which demonstrations are right: expected --reward SPEC, or --accept-all",
            ));
        }
    };
    Ok((verifier, Hosted::connect(options.teacher.as_deref().unwrap_or_default(), asking)?))
}

/// Asks for the demonstrations of a lesson and keeps the good ones in its folder: `teacher.jsonl` has all that was said,
/// `demonstrations.jsonl` what is learned from, in the order of the records.
pub(crate) fn draw(lesson: Lesson<'_>, terminal: Terminal) -> anyhow::Result<Taught> {
    let Lesson { options, asking, spec, records, folder, again, seed } = lesson;
    let (verifier, hosted) = prepared(options, asking, spec)?;
    let draws = Draws {
        samples: options.teacher_samples.get(),
        max_tokens: options.teacher_max_tokens,
        temperature: options.teacher_temperature,
        top_p: 1.0,
        top_k: 0,
        stop: Vec::new(),
        system: options.teacher_system.clone(),
        seed,
    };
    let questions: Vec<(&Hosted, Question)> =
        draws.questions(&hosted, records)?.into_iter().map(|question| (&hosted, question)).collect();
    let mut journal = Journal::open(&folder.join("teacher.jsonl"))?;
    let asked = ask_showing(&questions, &mut journal, asking, again, terminal)?;
    let answers: Vec<(&Record, &Answer)> =
        asked.answers().map(|(place, answer)| (&records[place / draws.samples], answer)).collect();
    let (lines, counts) = sift(&answers, verifier.as_deref(), options)?;
    let path = folder.join("demonstrations.jsonl");
    if counts.kept == 0 {
        anyhow::bail!("none of {} demonstrations was kept: {}", answers.len(), counts.text());
    }
    write_atomically(&path, lines.as_bytes())?;
    let failures = asked.failures();
    let failed: usize = failures.values().sum();
    let unanswered = if failed > 0 { format!(", {failed} failed (asked again by {again})") } else { String::new() };
    let rate = counts.kept as f64 / answers.len() as f64;
    let text = format!(
        "{} of {} demonstrations kept, {}{}{unanswered}, {}",
        counts.kept,
        answers.len(),
        percent(rate),
        counts.text(),
        asked.spending.text()
    );
    let mut object = asked.spending.json();
    for (name, value) in [
        ("asked", json!(questions.len())),
        ("answers", json!(answers.len())),
        ("kept", json!(counts.kept)),
        ("acceptance_rate", json!(rate)),
        ("refused", json!(counts.refused)),
        ("no_verdict", json!(counts.no_verdict)),
        ("cut", json!(counts.cut)),
        ("declined", json!(counts.declined)),
        ("repeated", json!(counts.repeated)),
        ("failed", json!(failures)),
        ("demonstrations", json!(path)),
    ] {
        object.insert(name.to_owned(), value);
    }
    Ok(Taught { path, text, json: Value::Object(object) })
}

impl Counts {
    /// What was not kept.
    fn text(&self) -> String {
        let parts = [
            (self.refused, "wrong"),
            (self.no_verdict, "without a verdict"),
            (self.cut, "cut"),
            (self.declined, "declined"),
            (self.repeated, "repeated"),
        ];
        let parts = parts.into_iter().filter(|(n, _)| *n > 0);
        parts.map(|(n, what)| format!(", {n} {what}")).collect()
    }
}

/// The lines of the answers that are kept.
fn sift(
    answers: &[(&Record, &Answer)],
    verifier: Option<&dyn RewardFunction>,
    options: &TeacherOptions,
) -> anyhow::Result<(String, Counts)> {
    let inputs: Vec<RewardInput<'_>> = answers
        .iter()
        .map(|(record, answer)| RewardInput {
            prompt: &record.prompt,
            completion: answer.text.trim(),
            tokens: &[],
            truncated: answer.is_cut(),
            max_completion_length: options.teacher_max_tokens,
            columns: &record.columns,
        })
        .collect();
    let verdicts = verifier.map(|verifier| verifier.score(&inputs)).transpose()?;
    let (mut lines, mut counts, mut seen) = (String::new(), Counts::default(), BTreeSet::new());
    for (i, (record, answer)) in answers.iter().enumerate() {
        let text = answer.text.trim();
        let score = verdicts.as_ref().map(|verdicts| verdicts[i].score);
        let count = match score {
            _ if answer.is_declined() => &mut counts.declined,
            // A demonstration that breaks off teaches to break off.
            _ if answer.is_cut() || text.is_empty() => &mut counts.cut,
            Some(None) => &mut counts.no_verdict,
            Some(Some(score)) if score < options.threshold => &mut counts.refused,
            _ => {
                let prompt = prompt_json(&record.prompt);
                if seen.insert((prompt.to_string(), text)) {
                    lines.push_str(&format!("{}\n", json!({ "prompt": prompt, "completion": text })));
                    &mut counts.kept
                } else {
                    &mut counts.repeated
                }
            }
        };
        *count += 1;
    }
    Ok((lines, counts))
}

/// A prompt as it stands in a data file.
fn prompt_json(prompt: &Prompt) -> Value {
    match prompt {
        Prompt::Text(text) => json!(text),
        Prompt::Messages(turns) => {
            turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.content })).collect()
        }
    }
}
