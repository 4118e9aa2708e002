//! The rules of retries, as tables.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use llm_providers::client::{OnLongHint, Retry, RetryBudget, RetryPolicy};
use llm_providers::{ApiError, ApiErrorKind, Deadline, Error, LlmProvider, Phase, StreamEvent};
use tokio::time::Instant;

use super::script::{Script, Step, answer_events, block, delta, paused, request, start, status};

fn api(change: impl FnOnce(&mut ApiError)) -> Error {
    let mut error = ApiError::new("script", 429, "scripted");
    change(&mut error);
    error.into()
}

fn hint(seconds: f64) -> Error {
    api(|error| error.retry_after = Some(Duration::from_secs_f64(seconds)))
}

fn connect() -> Error {
    Error::Connect { endpoint: "http://host:1".to_owned(), source: "refused".into() }
}

/// How many attempts a call makes that always fails with `error`, and how long it takes.
fn attempts(policy: RetryPolicy, error: impl Fn() -> Error + Send + 'static) -> (usize, Duration, Error) {
    paused(async {
        let script = Script::new(move |_, _| Step::fail(error()));
        let retry = Retry::with_policy(script.clone(), policy.with_seed(1), Arc::default());
        let start = Instant::now();
        let error = retry.complete(&request()).await.unwrap_err();
        (script.calls(), start.elapsed(), error)
    })
}

#[test]
fn what_is_repeated() {
    type Case = (&'static str, Box<dyn Fn() -> Error + Send>, bool);
    let cases: Vec<Case> = vec![
        ("400", Box::new(|| status(400)), false),
        ("401", Box::new(|| status(401)), false),
        ("402", Box::new(|| status(402)), false),
        ("403", Box::new(|| status(403)), false),
        ("404", Box::new(|| status(404)), false),
        ("408", Box::new(|| status(408)), true),
        ("409", Box::new(|| status(409)), true),
        ("413", Box::new(|| status(413)), false),
        ("422", Box::new(|| status(422)), false),
        ("429", Box::new(|| status(429)), true),
        ("500", Box::new(|| status(500)), true),
        ("501", Box::new(|| status(501)), true),
        ("503", Box::new(|| status(503)), true),
        ("529", Box::new(|| status(529)), true),
        ("429, quota", Box::new(|| api(|error| error.kind = ApiErrorKind::Quota)), false),
        (
            "429, quota, told to repeat",
            Box::new(|| api(|error| (error.kind, error.should_retry) = (ApiErrorKind::Quota, Some(true)))),
            false,
        ),
        ("429, told not to", Box::new(|| api(|error| error.should_retry = Some(false))), false),
        ("400, told to", Box::new(|| api(|error| (error.status, error.should_retry) = (400, Some(true)))), true),
        (
            "overloaded after a 200",
            Box::new(|| api(|error| (error.status, error.kind) = (200, ApiErrorKind::Overloaded))),
            true,
        ),
        (
            "invalid after a 200",
            Box::new(|| api(|error| (error.status, error.kind) = (200, ApiErrorKind::InvalidRequest))),
            false,
        ),
        ("no connection", Box::new(connect), true),
        (
            "broken connection",
            Box::new(|| Error::Transport { endpoint: String::new(), phase: Phase::Send, source: "reset".into() }),
            true,
        ),
        ("deadline", Box::new(|| Error::Timeout { deadline: Deadline::Total, after: Duration::from_secs(1) }), true),
        ("budget", Box::new(|| Error::BudgetSpent { budget: "1 USD".to_owned() }), false),
        ("given up", Box::new(|| Error::Exhausted { attempts: 3, last: Box::new(status(500)) }), false),
    ];
    for (name, error, repeated) in cases {
        let (attempts, _, error) = attempts(RetryPolicy::openai(), error);
        assert_eq!(attempts, if repeated { 3 } else { 1 }, "{name}");
        assert_eq!(matches!(error, Error::Exhausted { attempts: 3, .. }), repeated || name == "given up", "{name}");
        assert!(!repeated || !error.is_retryable(), "{name}");
    }
}

#[test]
fn how_long_is_waited() {
    let (openai, anthropic, gemini) = (RetryPolicy::openai(), RetryPolicy::anthropic(), RetryPolicy::gemini());
    // The waits of a call that fails three times; `None`: its own, which are 0.5 s and 1 s less a quarter at most.
    for (policy, seconds, attempts_expected, wait) in [
        (&openai, 7.0, 3, Some(14.0)),
        (&openai, 0.25, 3, Some(0.5)),
        (&openai, 120.0, 3, Some(240.0)),
        (&openai, 120.001, 1, Some(0.0)),
        (&openai, 0.0, 3, None),
        (&anthropic, 60.0, 3, Some(120.0)),
        (&anthropic, 60.001, 3, None),
        (&anthropic, 3600.0, 3, None),
        (&gemini, 38.0, 3, Some(76.0)),
        (&gemini, 86_400.0, 1, Some(0.0)),
        (&RetryPolicy::none(), 1.0, 1, Some(0.0)),
    ] {
        let (attempts, waited, error) = attempts(policy.clone(), move || hint(seconds));
        assert_eq!(attempts, attempts_expected, "{policy:?} {seconds}");
        match wait {
            // The clock of the tests goes in whole milliseconds, rounded up.
            Some(wait) => assert!((waited.as_secs_f64() - wait).abs() <= 0.002, "{policy:?} {seconds}: {waited:?}"),
            None => assert!((1.125..=1.502).contains(&waited.as_secs_f64()), "{policy:?} {seconds}: {waited:?}"),
        }
        assert_eq!(error.retry_after(), Some(Duration::from_secs_f64(seconds)));
    }
}

#[test]
fn own_waits_double_to_a_bound_and_differ() {
    let policy = RetryPolicy::default().with_max_retries(7);
    let (_, with_one_seed, _) = attempts(policy.clone(), || status(500));
    let again = attempts(policy.clone(), || status(500)).1;
    assert_eq!(with_one_seed, again);
    // 0.5 + 1 + 2 + 4 + 8 + 8 + 8 s, less a quarter at most.
    assert!((23.6..=31.51).contains(&with_one_seed.as_secs_f64()), "{with_one_seed:?}");
    let mut exact = policy;
    exact.jitter = 0.0;
    assert_eq!(attempts(exact, || status(500)).1, Duration::from_millis(31_500));
}

#[test]
fn vendors_have_their_rules() {
    for (name, hint, on_long_hint) in [
        ("openai", 120, OnLongHint::GiveUp),
        ("anthropic", 60, OnLongHint::OwnDelay),
        ("gcp.gemini", 60, OnLongHint::GiveUp),
        ("ollama", 60, OnLongHint::OwnDelay),
        ("somebody's", 60, OnLongHint::OwnDelay),
    ] {
        let policy = RetryPolicy::of_provider(name);
        assert_eq!((policy.longest_hint, policy.on_long_hint), (Duration::from_secs(hint), on_long_hint), "{name}");
        assert_eq!(policy.max_retries, 2);
    }
}

#[test]
fn a_policy_is_a_file() {
    let policy: RetryPolicy = serde_json::from_str(r#"{"max_retries": 5, "longest_hint_s": 1.5, "seed": 3}"#).unwrap();
    assert_eq!((policy.max_retries, policy.longest_hint), (5, Duration::from_millis(1500)));
    assert_eq!(serde_json::from_str::<RetryPolicy>(&serde_json::to_string(&policy).unwrap()).unwrap(), policy);
    assert!(serde_json::from_str::<RetryPolicy>(r#"{"retries": 5}"#).is_err());
    assert!(serde_json::from_str::<RetryPolicy>(r#"{"first_delay_s": -1}"#).is_err());
}

#[test]
fn an_answer_ends_the_attempts() {
    paused(async {
        let script = Script::new(|call, _| if call == 0 { Step::fail(status(503)) } else { Step::answer("yes") });
        let retry = Retry::new(script.clone());
        assert_eq!(retry.complete(&request()).await.unwrap().text(), "yes");
        assert_eq!(script.calls(), 2);
    });
}

#[test]
fn streams_are_repeated_until_their_first_piece() {
    let overloaded = || api(|error| (error.status, error.kind) = (200, ApiErrorKind::Overloaded));
    // Where the first attempt breaks: a head alone is repeated, a piece of content is not.
    let whole = || {
        let mut events = answer_events("yes");
        events.insert(1, StreamEvent::Ping);
        Step::events(events)
    };
    for (pieces, repeated) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
        paused(async {
            let script = Script::new(move |call, _| match call {
                0 => whole().broken_at(pieces, overloaded()),
                _ => whole(),
            });
            let retry = Retry::new(script.clone());
            let mut stream = retry.stream(&request()).await.unwrap();
            let mut events = Vec::new();
            while let Some(event) = stream.next().await {
                events.push(event);
            }
            assert_eq!(script.calls(), if repeated { 2 } else { 1 }, "{pieces}");
            if repeated {
                let events: Vec<_> = events.into_iter().map(Result::unwrap).collect();
                assert_eq!(events, answer_events("yes"), "{pieces}");
            } else {
                assert_eq!(events.len(), pieces, "{pieces}: what came before the error, less the ping");
                assert!(matches!(events.last(), Some(Err(Error::Api(_)))), "{pieces}");
            }
            drop(stream);
            assert_eq!(script.open(), 0);
        });
    }
}

#[test]
fn a_stream_that_ends_at_once_is_repeated_and_then_incomplete() {
    paused(async {
        let script = Script::new(|_, _| Step::events([start()]));
        let error = Retry::new(script.clone()).stream(&request()).await.unwrap_err();
        assert!(matches!(&error, Error::Exhausted { attempts: 3, last } if matches!(**last, Error::Incomplete { .. })));
        assert_eq!(script.calls(), 3);
        let cut = Script::new(|_, _| Step::events([start(), block(), delta("a")]));
        let stream = Retry::new(cut.clone()).stream(&request()).await.unwrap();
        assert!(matches!(stream.response().await.unwrap_err(), Error::Incomplete { .. }));
        assert_eq!(cut.calls(), 1);
    });
}

#[test]
fn a_dropped_call_is_not_repeated() {
    paused(async {
        let script = Script::new(|_, _| Step::fail(hint(30.0)));
        let retry = Retry::new(script.clone());
        let deadline = tokio::time::timeout(Duration::from_secs(31), retry.complete(&request())).await;
        assert!(deadline.is_err());
        tokio::time::sleep(Duration::from_secs(1000)).await;
        assert_eq!((script.calls(), script.open()), (2, 0));
    });
}

#[test]
fn layers_do_not_multiply_and_a_storm_is_bounded() {
    paused(async {
        let script = Script::new(|_, _| Step::fail(status(503)));
        let budget = Arc::new(RetryBudget::new(0.1, 10));
        let policy = RetryPolicy::default().with_seed(1);
        let layer = |inner: Box<dyn LlmProvider>| -> Box<dyn LlmProvider> {
            Box::new(Retry::with_policy(inner, policy.clone(), budget.clone()))
        };
        let client = layer(layer(layer(Box::new(script.clone()))));
        for _ in 0..100 {
            let error = client.complete(&request()).await.unwrap_err();
            assert!(matches!(error, Error::Exhausted { .. }));
        }
        // 100 calls; 10 retries from the reserve, and a tenth of a retry from each call in each of the three layers.
        assert_eq!(script.calls(), 100 + 10 + 30);
        assert!(budget.balance() < 1.0);
        // Without a budget, three layers of two retries would have made 27 attempts of each call, 2700 in all.
    });
}

#[test]
fn a_budget_saves_up_to_a_bound() {
    paused(async {
        let script = Script::new(|_, _| Step::answer("yes"));
        let budget = Arc::new(RetryBudget::new(0.5, 2));
        let retry = Retry::with_policy(script, RetryPolicy::default(), budget.clone());
        assert_eq!(budget.balance(), 2.0);
        for _ in 0..100 {
            retry.complete(&request()).await.unwrap();
        }
        assert_eq!(budget.balance(), 20.0);
    });
}
