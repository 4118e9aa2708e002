//! Several providers, one of which answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use llm_providers::client::{
    ANSWERED_BY, Candidate, Choose, Fallback, Outcome, Price, Prices, Retry, RetryBudget, RetryPolicy, Router,
    falls_back,
};
use llm_providers::{ApiError, ApiErrorKind, Deadline, Error, Feature, LlmProvider, Request};

use super::script::{Script, Step, answer_events, paused, request, status};

fn of_kind(kind: ApiErrorKind) -> Error {
    let mut error = ApiError::new("script", 400, "scripted");
    error.kind = kind;
    error.into()
}

#[test]
fn what_another_may_answer() {
    for (kind, expected) in [
        (ApiErrorKind::InvalidRequest, false),
        (ApiErrorKind::ContentPolicy, false),
        (ApiErrorKind::Other, false),
        (ApiErrorKind::Authentication, true),
        (ApiErrorKind::PermissionDenied, true),
        (ApiErrorKind::NotFound, true),
        (ApiErrorKind::ContextLength, true),
        (ApiErrorKind::RequestTooLarge, true),
        (ApiErrorKind::RateLimit, true),
        (ApiErrorKind::Quota, true),
        (ApiErrorKind::Overloaded, true),
        (ApiErrorKind::Timeout, true),
        (ApiErrorKind::Conflict, true),
        (ApiErrorKind::Server, true),
    ] {
        assert_eq!(falls_back(&of_kind(kind)), expected, "{kind:?}");
        let exhausted = Error::Exhausted { attempts: 3, last: Box::new(of_kind(kind)) };
        assert_eq!(falls_back(&exhausted), expected, "{kind:?}");
    }
    let timeout = Error::Timeout { deadline: Deadline::FirstChunk, after: Duration::ZERO };
    let unsupported = Error::Unsupported { provider: "p".to_owned(), feature: Feature::LogProbs };
    let spent = Error::BudgetSpent { budget: "1 USD".to_owned() };
    for (error, expected) in [(timeout, true), (unsupported, true), (spent, false)] {
        assert_eq!(falls_back(&error), expected, "{error}");
    }
}

#[test]
fn the_next_one_answers_and_is_named() {
    paused(async {
        let down = Script::named("first", |_, _| Step::fail(status(503)));
        let up = Script::named("second", |_, request| Step::answer(&request.model));
        let fallback = Fallback::in_order([
            Candidate::new(Retry::with_policy(down.clone(), RetryPolicy::default().with_seed(1), Arc::default())),
            Candidate::new(up).with_model("their-model"),
        ]);
        let fallback = fallback.unwrap();
        let whole = fallback.complete(&request()).await.unwrap();
        assert_eq!(
            (whole.text().as_str(), &whole.metadata[ANSWERED_BY]),
            ("their-model", &"second:their-model".into())
        );
        let streamed = fallback.stream(&request()).await.unwrap().response().await.unwrap();
        assert_eq!(streamed, whole);
        assert_eq!(down.calls(), 6);
        assert_eq!(fallback.name(), "router");
    });
    assert!(matches!(Fallback::in_order([]), Err(Error::Configuration { .. })));
}

#[test]
fn a_wrong_request_is_wrong_everywhere() {
    paused(async {
        let first = Script::new(|_, _| Step::fail(status(400)));
        let second = Script::new(|_, _| Step::answer("a"));
        let fallback = Fallback::in_order([Candidate::new(first), Candidate::new(second.clone())]).unwrap();
        assert_eq!(fallback.complete(&request()).await.unwrap_err().status(), Some(400));
        assert_eq!(second.calls(), 0);
        assert_eq!(fallback.name(), "script");
    });
}

#[test]
fn streams_fall_back_before_their_first_piece_alone() {
    for (pieces, calls) in [(0, 1), (1, 1), (2, 0), (3, 0)] {
        paused(async {
            let first = Script::new(move |_, _| Step::events(answer_events("broken")).broken_at(pieces, status(529)));
            let second = Script::new(|_, _| Step::answer("whole"));
            let fallback = Fallback::in_order([Candidate::new(first.clone()), Candidate::new(second.clone())]).unwrap();
            let answer = fallback.stream(&request()).await.unwrap().response().await;
            assert_eq!(second.calls(), calls, "{pieces}");
            assert_eq!(answer.map(|answer| answer.text()).ok().as_deref(), (calls == 1).then_some("whole"), "{pieces}");
            assert_eq!((first.open(), second.open()), (0, 0));
        });
    }
}

#[test]
fn all_layers_draw_on_one_budget() {
    paused(async {
        let budget = Arc::new(RetryBudget::new(0.0, 10));
        let scripts: Vec<_> = (0..3).map(|_| Script::new(|_, _| Step::fail(status(503)))).collect();
        let candidates = scripts.iter().map(|script| {
            Candidate::new(Retry::with_policy(script.clone(), RetryPolicy::default().with_seed(1), budget.clone()))
        });
        let fallback = Fallback::in_order(candidates).unwrap().with_retry_budget(budget.clone());
        let outer = Retry::with_policy(fallback, RetryPolicy::default().with_seed(1), budget.clone());
        let error = outer.complete(&request()).await.unwrap_err();
        // Three attempts at each of three candidates: 6 retries and 2 further candidates; the outermost layer adds none.
        assert!(matches!(error, Error::Exhausted { attempts: 3, .. }));
        assert_eq!((scripts.iter().map(Script::calls).sum::<usize>(), budget.balance()), (9, 2.0));
        for _ in 0..100 {
            outer.complete(&request()).await.unwrap_err();
        }
        assert_eq!(scripts.iter().map(Script::calls).sum::<usize>(), 9 + 100 + 2);
        assert_eq!(budget.balance(), 0.0);
    });
}

type Learned = (usize, Duration, Option<f64>, Option<&'static str>);

/// Takes turns, and keeps what it is told.
#[derive(Debug, Default)]
struct Turns {
    next: AtomicUsize,
    learned: Mutex<Vec<Learned>>,
}

impl Choose for Turns {
    fn choose(&self, _: &Request, candidates: &[Candidate]) -> usize {
        assert_eq!(candidates.len(), 2);
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    fn learn(&self, chosen: usize, outcome: &Outcome<'_>) {
        let error = outcome.error.map(Error::kind);
        self.learned.lock().unwrap().push((chosen, outcome.latency, outcome.cost, error));
    }
}

#[test]
fn a_choice_is_made_and_learned_from() {
    paused(async {
        let slow = Script::named("slow", |_, _| Step::answer("slow").after(Duration::from_secs(5)));
        let bad = Script::named("bad", |call, _| match call {
            0 => Step::fail(status(500)).after(Duration::from_secs(1)),
            1 => Step::answer("bad").broken_at(3, status(500)),
            _ => Step::answer("bad"),
        });
        let candidates = [Candidate::new(slow), Candidate::new(bad).with_model("priced")];
        let prices = Prices::new([("priced", Price::new(1e6, 2e6))]).unwrap();
        let router = Router::new(candidates, Turns::default()).unwrap().with_prices(prices);
        let answer = async || router.complete(&request()).await.map(|answer| answer.text());
        assert_eq!(answer().await.unwrap(), "slow");
        assert_eq!(answer().await.unwrap(), "slow", "the chosen one failed, the other one answered");
        router.stream(&request()).await.unwrap().response().await.unwrap_err();
        router.stream(&request()).await.unwrap().response().await.unwrap();
        // Dropped before its end: nothing to learn.
        let mut dropped = router.stream(&request()).await.unwrap();
        dropped.next().await.unwrap().unwrap();
        drop(dropped);
        let second = Duration::from_secs;
        let expected = [
            (0, second(5), None, None),
            (1, second(1), None, Some("server")),
            (0, second(5), None, None),
            // A place beyond the last is the last.
            (1, second(0), None, Some("server")),
            (1, second(0), Some(20.0), None),
        ];
        assert_eq!(*router.choice().learned.lock().unwrap(), expected);
    });
}

#[test]
fn candidates_share_what_all_can_do() {
    #[derive(Debug)]
    struct Poor(Script);

    impl LlmProvider for Poor {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn complete<'a>(
            &'a self,
            request: &'a Request,
        ) -> llm_providers::BoxFuture<'a, llm_providers::Result<llm_providers::Response>> {
            self.0.complete(request)
        }

        fn stream<'a>(
            &'a self,
            request: &'a Request,
        ) -> llm_providers::BoxFuture<'a, llm_providers::Result<llm_providers::ResponseStream>> {
            self.0.stream(request)
        }

        fn available(&self) -> llm_providers::BoxFuture<'_, llm_providers::Result<llm_providers::Availability>> {
            Box::pin(async { Err(status(500)) })
        }

        fn capabilities(&self) -> llm_providers::Capabilities {
            llm_providers::Capabilities::all().without(Feature::Seed)
        }
    }

    let script = || Script::new(|_, _| Step::answer("a"));
    let fallback = Fallback::in_order([Candidate::new(Poor(script())), Candidate::new(script())]).unwrap();
    assert_eq!(fallback.capabilities(), llm_providers::Capabilities::all().without(Feature::Seed));
    assert_eq!(paused(fallback.available()).unwrap().models, ["model-1"]);
    let alone = Fallback::in_order([Candidate::new(Poor(script()))]).unwrap();
    assert!(paused(alone.available()).is_err());
}
