//! Many questions at once.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Instant;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::runtime::{Builder, Runtime};

use super::{Answer, Failure, Hosted, Journal, Question, Spending};
use crate::interrupt::interrupted;

/// Failures in a row, without one answer among them, after which asking is given up: the server is not there, or the request is
/// one that it never takes.
const GIVE_UP_AFTER: usize = 10;

/// A runtime of one thread, for verbs to block on.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime for requests")
}

/// What came of many questions.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// For each question, in their order; `None` where asking ended before.
    pub(crate) outcomes: Vec<Option<Result<Answer, Failure>>>,
    /// Answers that had come before.
    pub(crate) kept: usize,
    /// Of all answers.
    pub(crate) spending: Spending,
    pub(crate) ended: Ended,
}

/// How asking ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Ended {
    /// Every question was asked.
    #[default]
    Done,
    /// Somebody wanted it to end.
    Interrupted,
    /// As much was spent as may be.
    Spent,
    /// Everything else would fail the same way.
    GaveUp(Failure),
}

impl Asked {
    /// Takes in what came of further questions.
    pub(crate) fn append(&mut self, more: Self) {
        more.answers().for_each(|(_, answer)| self.spending.add(answer));
        self.outcomes.extend(more.outcomes);
        self.kept += more.kept;
        self.ended = more.ended;
    }

    /// Failures by their kind.
    pub(crate) fn failures(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for failure in self.outcomes.iter().flatten().filter_map(|outcome| outcome.as_ref().err()) {
            *counts.entry(failure.kind).or_default() += 1;
        }
        counts
    }

    /// The first failure.
    pub(crate) fn first_failure(&self) -> Option<&Failure> {
        self.outcomes.iter().flatten().find_map(|outcome| outcome.as_ref().err())
    }

    /// The answers, in the order of the questions.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (usize, &Answer)> {
        self.outcomes.iter().enumerate().filter_map(|(i, outcome)| Some((i, outcome.as_ref()?.as_ref().ok()?)))
    }
}

/// How many questions may be under way, and what all may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) concurrency: NonZeroUsize,
    /// USD.
    pub(crate) max_cost: Option<f64>,
    /// What counts as spent already; `None`: what the answers in the journal cost.
    pub(crate) before: Option<f64>,
    /// Questions that may be asked, those in the journal aside.
    pub(crate) max_calls: Option<usize>,
    /// Whether Ctrl-C ends it.
    pub(crate) listens: bool,
}

/// Sees an outcome with the number of its question, and what was spent by then.
pub(crate) type Hear<'h> = &'h mut dyn FnMut(usize, &Result<Answer, Failure>, &Spending);

/// Asks what the journal does not know, and appends each answer to it as it comes. `heard` sees every outcome with the number of its
/// question, those of the journal first, then the others as they come, and what was spent by then.
///
/// Equal questions are asked once. Requests that are under way when as much is spent as may be are waited for; on Ctrl-C they are
/// dropped.
pub(crate) async fn ask_all(
    questions: &[(&Hosted, Question)],
    journal: &mut Journal,
    limits: Limits,
    heard: Hear<'_>,
) -> anyhow::Result<Asked> {
    let mut asked =
        Asked { outcomes: vec![None; questions.len()], kept: 0, spending: Spending::default(), ended: Ended::Done };
    // The places of every question that is to be asked.
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut waiting = Vec::new();
    for (i, (_, question)) in questions.iter().enumerate() {
        match journal.find(&question.key) {
            Some(answer) => {
                asked.kept += 1;
                asked.spending.add(answer);
                let outcome = Ok(answer.clone());
                heard(i, &outcome, &asked.spending);
                asked.outcomes[i] = Some(outcome);
            }
            None => {
                let same = places.entry(&question.key).or_default();
                if same.is_empty() {
                    waiting.push(i);
                }
                same.push(i);
            }
        }
    }
    let before = limits.before.unwrap_or(asked.spending.cost_usd) - asked.spending.cost_usd;
    let mut waiting = waiting.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut interrupt = pin!(interrupted());
    let (mut started, mut failed_in_a_row, mut any_answer) = (0, 0, false);
    loop {
        while asked.ended == Ended::Done && under_way.len() < limits.concurrency.get() {
            let Some(i) = waiting.as_slice().first().copied() else { break };
            let spent = before + asked.spending.cost_usd;
            let too_much = limits.max_cost.is_some_and(|most| spent >= most);
            if too_much || limits.max_calls.is_some_and(|most| started >= most) {
                asked.ended = Ended::Spent;
                break;
            }
            waiting.next();
            started += 1;
            under_way.push(async move { (i, ask(questions[i].0, &questions[i].1).await) });
        }
        if under_way.is_empty() {
            break;
        }
        let next = match limits.listens {
            true => select(under_way.next(), interrupt.as_mut()).await,
            false => Either::Left((under_way.next().await, interrupt.as_mut())),
        };
        let (i, outcome) = match next {
            Either::Left((Some(next), _)) => next,
            Either::Left((None, _)) => break,
            Either::Right(_) => {
                asked.ended = Ended::Interrupted;
                break;
            }
        };
        match &outcome {
            Ok(answer) => {
                (failed_in_a_row, any_answer) = (0, true);
                asked.spending.add(answer);
                journal.add(answer.clone())?;
            }
            Err(failure) => {
                failed_in_a_row += 1;
                let hopeless = failure.is_final || (!any_answer && failed_in_a_row >= GIVE_UP_AFTER);
                if hopeless && asked.ended == Ended::Done {
                    asked.ended = Ended::GaveUp(failure.clone());
                }
            }
        }
        for place in places.remove(questions[i].1.key.as_str()).unwrap_or_default() {
            heard(place, &outcome, &asked.spending);
            asked.outcomes[place] = Some(outcome.clone());
        }
    }
    Ok(asked)
}

async fn ask(hosted: &Hosted, question: &Question) -> Result<Answer, Failure> {
    let started = Instant::now();
    let response = hosted.provider().complete(&question.request).await.map_err(|error| Failure::from(&error))?;
    let cost = hosted.cost(&response.usage);
    Answer::of(&question.key, &response, cost, started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    use krystal::llm::{ApiError, MemoryProvider, Message, Reply};

    use super::*;

    const LIMITS: Limits = Limits {
        concurrency: NonZeroUsize::new(3).unwrap(),
        max_cost: None,
        before: None,
        max_calls: None,
        listens: false,
    };

    /// Asks `texts` in this order of a model whose answer to `n` takes long where `n` is small.
    fn ask(path: &Path, texts: &[&str], limits: Limits) -> (Asked, usize) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let provider = MemoryProvider::answering(move |request| {
            counted.fetch_add(1, SeqCst);
            let text = request.messages[0].text();
            match text.strip_prefix("fail ") {
                Some(status) => Reply::error(ApiError::new("m", status.parse().unwrap(), "").into()),
                None => Reply::text(format!("{text}!")).after(Duration::from_millis(30 / (text.len() as u64 + 1))),
            }
        });
        let hosted = Hosted::at_hand(provider, "m");
        let question = |text: &&str| Question::new(&hosted, hosted.request(vec![Message::user(*text)]), 1, 0).unwrap();
        let questions: Vec<_> = texts.iter().map(|text| (&hosted, question(text))).collect();
        let mut journal = Journal::open(path).unwrap();
        let mut heard = |_, _: &_, _: &_| {};
        let asking = ask_all(&questions, &mut journal, limits, &mut heard);
        let asked = runtime().unwrap().block_on(asking).unwrap();
        (asked, calls.load(SeqCst))
    }

    fn texts(asked: &Asked) -> Vec<Option<String>> {
        let text = |outcome: &Option<Result<Answer, Failure>>| Some(outcome.as_ref()?.as_ref().ok()?.text.clone());
        asked.outcomes.iter().map(text).collect()
    }

    #[test]
    fn answers_are_in_the_order_of_questions_and_are_not_asked_for_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let questions = ["a", "bbbbbbbb", "fail 500", "cc", "a"];
        let expected = [Some("a!"), Some("bbbbbbbb!"), None, Some("cc!"), Some("a!")].map(|t| t.map(str::to_owned));
        let (asked, calls) = ask(&path, &questions, LIMITS);
        assert_eq!((texts(&asked), calls, asked.kept, asked.ended.clone()), (expected.to_vec(), 4, 0, Ended::Done));
        assert_eq!(asked.failures(), BTreeMap::from([("server", 1)]));
        let (again, calls) = ask(&path, &questions, LIMITS);
        assert_eq!((texts(&again), calls, again.kept), (expected.to_vec(), 1, 4));
    }

    #[test]
    fn what_is_hopeless_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let one_by_one = Limits { concurrency: NonZeroUsize::MIN, ..LIMITS };
        let (asked, calls) = ask(&folder.path().join("a.jsonl"), &["fail 401", "a", "b"], one_by_one);
        assert!(matches!(&asked.ended, Ended::GaveUp(failure) if failure.kind == "authentication"));
        assert_eq!(calls, 1);
        // A server that is down is left alone after a while; one that has answered before is not.
        let down: Vec<String> = (0..40).map(|i| format!("fail {}", 500 + i)).collect();
        let down: Vec<&str> = down.iter().map(String::as_str).collect();
        let (asked, calls) = ask(&folder.path().join("b.jsonl"), &down, LIMITS);
        assert!(matches!(asked.ended, Ended::GaveUp(_)) && (10..14).contains(&calls), "{calls}");
        let (asked, calls) = ask(&folder.path().join("c.jsonl"), &[&["ok"], &down[..]].concat(), one_by_one);
        assert_eq!((asked.ended.clone(), calls), (Ended::Done, 41));
    }

    #[test]
    fn a_bound_on_calls_holds() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_calls: Some(2), ..LIMITS };
        let (asked, calls) = ask(&folder.path().join("a.jsonl"), &["a", "b", "c"], limits);
        assert_eq!((asked.ended.clone(), calls, asked.answers().count()), (Ended::Spent, 2, 2));
    }
}
