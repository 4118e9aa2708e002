//! A hosted model as a reward: it grades completions by a rubric, several times each.

mod prompt;
mod verdict;
mod votes;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use krystal::grpo::reward::{Reward, RewardError, RewardFunction, RewardInput};
use krystal::llm::{Feature, JsonSchema, OutputFormat};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::asking::Limits;
use super::{Answer, Ended, Failure, Hosted, HostedOptions, Journal, JudgeOptions, Question, Spending};
use super::{ask_all, runtime, seed_of};
use crate::failure::usage;
use prompt::Case;
use votes::Vote;

/// The reward's name in metrics.
pub(crate) const NAME: &str = "judge";

/// A hosted model that grades. Clones share it: its answers, its budget.
///
/// A grade is a function of seed, rubric, prompt and completion, as far as the journal has it: what was answered is never asked again,
/// and what could not be asked is no grade.
#[derive(Clone)]
pub(crate) struct Judge(Rc<Inner>);

struct Inner {
    hosted: Hosted,
    rubric: String,
    options: JudgeOptions,
    asking: HostedOptions,
    seed: u64,
    runtime: Runtime,
    journal: RefCell<Option<Journal>>,
    graded: Cell<usize>,
    abstained: Cell<usize>,
}

impl Judge {
    /// The judge that the flags name, if they name one.
    pub(crate) fn of(options: &JudgeOptions, asking: &HostedOptions, seed: u64) -> anyhow::Result<Option<Self>> {
        let Some(target) = &options.judge else { return Ok(None) };
        let rubric = match (&options.rubric, &options.rubric_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?
            }
            (None, None) => {
                return Err(usage("--judge has nothing to grade by: expected --rubric TEXT or --rubric-file FILE"));
            }
        };
        if rubric.trim().is_empty() {
            return Err(usage("the rubric is empty: expected what makes an answer good"));
        }
        let hosted = Hosted::connect(target, asking)?;
        Self::new(hosted, rubric, options, asking, seed).map(Some)
    }

    fn new(
        hosted: Hosted,
        rubric: String,
        options: &JudgeOptions,
        asking: &HostedOptions,
        seed: u64,
    ) -> anyhow::Result<Self> {
        Ok(Self(Rc::new(Inner {
            hosted,
            rubric,
            options: options.clone(),
            asking: asking.clone(),
            seed,
            runtime: runtime()?,
            journal: RefCell::new(None),
            graded: Cell::new(0),
            abstained: Cell::new(0),
        })))
    }

    /// Keeps every answer in this file, and asks nothing that is in it. To be called before the first completion is graded.
    pub(crate) fn keep_in(&self, path: &Path) -> anyhow::Result<()> {
        *self.0.journal.borrow_mut() = Some(Journal::open(path)?);
        Ok(())
    }

    /// As a reward function.
    pub(crate) fn reward(&self) -> Box<dyn RewardFunction> {
        Box::new(self.clone())
    }

    /// What it has done, for people and for programs.
    pub(crate) fn report(&self) -> (String, Value) {
        let journal = self.0.journal.borrow();
        let spending = journal.as_ref().map_or_else(Spending::default, |journal| journal.spending().clone());
        let (graded, abstained) = (self.0.graded.get(), self.0.abstained.get());
        let (calls, tokens) = (spending.answers, spending.text());
        let text = format!("{graded} completions, {abstained} of them without a grade; {calls} calls, {tokens}");
        let mut object = spending.json();
        object.insert("completions".into(), json!(graded));
        object.insert("abstentions".into(), json!(abstained));
        object.insert("calls".into(), json!(spending.answers));
        (text, Value::Object(object))
    }
}

impl Inner {
    fn question(&self, case: &Case<'_>, vote: u64) -> anyhow::Result<Question> {
        let mut request = self.hosted.request(case.messages(&self.rubric, self.seed));
        request.max_tokens = Some(self.options.judge_max_tokens.get());
        let capabilities = self.hosted.provider().capabilities();
        if capabilities.has(Feature::JsonSchema) {
            request.output = OutputFormat::JsonSchema(JsonSchema::new("verdict", verdict::schema()));
        } else if capabilities.has(Feature::JsonObject) {
            request.output = OutputFormat::JsonObject;
        }
        if capabilities.has(Feature::Seed) {
            request.seed = Some(seed_of(self.seed, vote));
        }
        Question::new(&self.hosted, request, self.seed, vote)
    }

    fn grade(&self, inputs: &[RewardInput<'_>]) -> anyhow::Result<Vec<Reward>> {
        let votes = self.options.judge_votes.get();
        let mut questions = Vec::with_capacity(inputs.len() * votes);
        for input in inputs {
            let case = Case { prompt: input.prompt, completion: input.completion };
            for vote in 0..votes as u64 {
                questions.push((&self.hosted, self.question(&case, vote)?));
            }
        }
        let mut journal = self.journal.borrow_mut();
        let journal = journal.as_mut().context("there is no file to keep its answers in")?;
        let before = journal.spending().clone();
        let limits = Limits {
            concurrency: self.asking.concurrency,
            max_cost: self.asking.max_cost,
            before: Some(before.cost_usd),
            max_calls: self.options.judge_max_calls.map(|most| most.saturating_sub(before.answers)),
            listens: false,
        };
        let asked = self.runtime.block_on(ask_all(&questions, journal, limits, &mut |_, _, _| {}))?;
        match &asked.ended {
            Ended::Done | Ended::Interrupted => {}
            Ended::Spent => anyhow::bail!("its budget is spent, after {}", journal.spending().text()),
            Ended::GaveUp(failure) => anyhow::bail!("{failure}"),
        }
        let cast: Vec<Vote> = asked.outcomes.into_iter().map(vote).collect();
        let failed = |vote: &Vote| matches!(vote, Vote::Failed(_));
        if let Some(Vote::Failed(why)) = cast.first()
            && cast.iter().all(failed)
        {
            anyhow::bail!("not one of {} calls was answered: {why}", cast.len());
        }
        Ok(cast.chunks(votes).map(|votes| self.reward(votes)).collect())
    }

    fn reward(&self, votes: &[Vote]) -> Reward {
        self.graded.set(self.graded.get() + 1);
        let shown: Vec<Option<u8>> = votes.iter().map(Vote::score).collect();
        let mut reward = match votes::count(votes, self.options.judge_vote, self.options.judge_spread) {
            Ok(points) => Reward::score(points / f64::from(verdict::MOST)),
            Err(reason) => {
                self.abstained.set(self.abstained.get() + 1);
                Reward::abstain(reason)
            }
        };
        reward.extra = BTreeMap::from([("judge_votes".to_owned(), json!(shown))]);
        reward
    }
}

/// What an outcome says about the completion.
fn vote(outcome: Option<Result<Answer, Failure>>) -> Vote {
    match outcome {
        Some(Ok(answer)) => verdict::read(&answer).map_or_else(Vote::Invalid, Vote::Score),
        Some(Err(failure)) => Vote::Failed(failure.message),
        None => Vote::Failed("it was not asked".to_owned()),
    }
}

impl RewardFunction for Judge {
    fn name(&self) -> &str {
        NAME
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        let failed = |error: anyhow::Error| RewardError { name: NAME.to_owned(), reason: format!("{error:#}") };
        self.0.grade(inputs).map_err(failed)
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("hosted", &self.0.hosted)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
