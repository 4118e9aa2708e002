//! Answers to the prompts of a file or a task.

use krystal::grpo::data::{Prompt, Record};
use krystal::llm::{Feature, Message, Request, Role};

use super::asking::Limits;
use super::{Asked, Ended, Hosted, HostedOptions, Journal, Question, ask_all, runtime};
use crate::failure::{Exit, usage};
use crate::interrupt;
use crate::terminal::Terminal;

/// How answers are drawn.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    /// Answers to each prompt.
    pub(crate) samples: usize,
    /// Most tokens of one.
    pub(crate) max_tokens: usize,
    /// `None`: the vendor's default, for some models take no other.
    pub(crate) temperature: Option<f64>,
    /// 1 sends none.
    pub(crate) top_p: f64,
    /// 0 sends none.
    pub(crate) top_k: usize,
    pub(crate) stop: Vec<String>,
    /// What the model is told before each prompt.
    pub(crate) system: Option<String>,
    pub(crate) seed: u64,
}

impl Draws {
    /// The questions to `hosted`: those of the first record, then those of the next.
    pub(crate) fn questions(&self, hosted: &Hosted, records: &[Record]) -> anyhow::Result<Vec<Question>> {
        if self.samples > 1 && self.temperature == Some(0.0) {
            return Err(usage("--samples above 1 with --temperature 0: greedy answers are all the same"));
        }
        let mut questions = Vec::with_capacity(records.len() * self.samples);
        for record in records {
            let mut messages = messages(&record.prompt)?;
            if let Some(system) = &self.system {
                messages.insert(0, Message::system(system.as_str()));
            }
            for draw in 0..self.samples as u64 {
                let request = self.request(hosted, messages.clone(), draw)?;
                questions.push(Question::new(hosted, request, self.seed, draw)?);
            }
        }
        Ok(questions)
    }

    fn request(&self, hosted: &Hosted, messages: Vec<Message>, draw: u64) -> anyhow::Result<Request> {
        let too_many = |flag: &str| usage(format!("{flag} is beyond what servers take"));
        let mut request = hosted.request(messages);
        request.max_tokens = Some(u32::try_from(self.max_tokens).map_err(|_| too_many("--max-completion-length"))?);
        request.temperature = self.temperature;
        request.top_p = (self.top_p != 1.0).then_some(self.top_p);
        if self.top_k > 0 {
            request.top_k = Some(u32::try_from(self.top_k).map_err(|_| too_many("--top-k"))?);
        }
        request.stop.clone_from(&self.stop);
        // Some servers have none, and an answer of another draw is as good.
        if hosted.provider().capabilities().has(Feature::Seed) {
            request.seed = Some(seed_of(self.seed, draw));
        }
        Ok(request)
    }
}

/// A seed that vendors take: 31 bits, another one for each draw.
pub(crate) fn seed_of(seed: u64, draw: u64) -> i64 {
    (krystal::math::rng::SplitMix64::stream(seed, krystal::math::rng::Purpose::Generation, draw, 0).next_word() >> 33)
        as i64
}

/// A prompt as a conversation; plain text is the user's.
pub(crate) fn messages(prompt: &Prompt) -> anyhow::Result<Vec<Message>> {
    let turns = match prompt {
        Prompt::Text(text) => return Ok(vec![Message::user(text.as_str())]),
        Prompt::Messages(turns) => turns,
    };
    let message = |turn: &krystal::grpo::data::Message| {
        let role = match turn.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => return Err(usage(format!("a hosted model takes no message of role `{other}` in a prompt"))),
        };
        Ok(Message::new(role, vec![krystal::llm::Content::text(turn.content.as_str())]))
    };
    turns.iter().map(message).collect()
}

/// Asks, showing how far it is. What ends it early is an error that says how to go on; `again` is the command for that.
pub(crate) fn ask_showing(
    questions: &[(&Hosted, Question)],
    journal: &mut Journal,
    options: &HostedOptions,
    again: &str,
    terminal: Terminal,
) -> anyhow::Result<Asked> {
    interrupt::listen("stopping; what was answered is kept");
    let limits = Limits {
        concurrency: options.concurrency,
        max_cost: options.max_cost,
        before: None,
        max_calls: None,
        listens: true,
    };
    let mut progress = terminal.progress("asking", questions.len());
    progress.set(0, "");
    let (mut heard, mut failed) = (0, 0);
    let asked = runtime()?.block_on(ask_all(questions, journal, limits, &mut |_, outcome, spending| {
        heard += 1;
        failed += usize::from(outcome.is_err());
        let failures = if failed > 0 { format!("{failed} failed, ") } else { String::new() };
        progress.set(heard, &format!("{failures}{}", spending.text()));
    }))?;
    drop(progress);
    let answers = asked.answers().count();
    if let Some(error) = unfinished(&asked.ended, (answers, questions.len()), journal, options, again) {
        return Err(error);
    }
    match asked.first_failure() {
        Some(first) if answers == 0 => {
            Err(Exit::error(1, format!("not one of {} questions was answered: {first}", questions.len())))
        }
        _ => Ok(asked),
    }
}

/// The error for asking that ended early, after `answers` of so many.
pub(crate) fn unfinished(
    ended: &Ended,
    (answers, all): (usize, usize),
    journal: &Journal,
    options: &HostedOptions,
    again: &str,
) -> Option<anyhow::Error> {
    let kept = format!("{answers} of {all} answers are in {}", journal.path().display());
    Some(match ended {
        Ended::Done => return None,
        Ended::Interrupted => Exit::error(130, format!("interrupted: {kept}; {again} goes on from there")),
        Ended::Spent => {
            let budget = options.max_cost.unwrap_or_default();
            Exit::error(
                1,
                format!("the budget of ${budget} is spent: {kept}; {again} with a higher --max-cost goes on"),
            )
        }
        Ended::GaveUp(failure) => Exit::error(1, format!("{failure}; {kept}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use krystal::grpo::data::Message as Turn;

    #[test]
    fn prompts_are_conversations() {
        let text = messages(&Prompt::Text("2+2=".into())).unwrap();
        assert_eq!(text, [Message::user("2+2=")]);
        let turn = |role: &str| Turn { role: role.into(), content: "x".into() };
        let turns = messages(&Prompt::Messages(vec![turn("system"), turn("user"), turn("assistant")])).unwrap();
        assert_eq!(turns.iter().map(|m| m.role).collect::<Vec<_>>(), [Role::System, Role::User, Role::Assistant]);
        let error = messages(&Prompt::Messages(vec![turn("tool")])).unwrap_err().to_string();
        assert!(error.contains("role `tool`"), "{error}");
    }

    #[test]
    fn seeds_are_small_and_differ() {
        let seeds: std::collections::BTreeSet<i64> = (0..100).map(|draw| seed_of(7, draw)).collect();
        assert_eq!(seeds.len(), 100);
        assert!(seeds.iter().all(|seed| (0..1 << 31).contains(seed)));
        assert_ne!(seed_of(7, 0), seed_of(8, 0));
    }
}
