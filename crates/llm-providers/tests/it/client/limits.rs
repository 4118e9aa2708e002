//! Bounds on how much is asked at a time.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use llm_providers::client::{LimitConfig, Limits};
use llm_providers::{LlmProvider, StreamEvent};
use tokio::time::Instant;

use super::script::{Script, Step, paused, request, status, usage};

fn n(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn so_many_calls_at_the_same_time() {
    paused(async {
        let script = Script::new(|_, _| Step::answer("a").after(seconds(10)));
        let limits = Limits::new(script.clone(), &LimitConfig::default().with_concurrency(n(3)));
        let begin = Instant::now();
        let request = request();
        join_all((0..10).map(|_| limits.complete(&request))).await;
        assert_eq!((script.most_open(), begin.elapsed()), (3, seconds(40)));
    });
}

#[test]
fn a_stream_holds_its_place_until_it_ends_or_is_dropped() {
    paused(async {
        let script = Script::new(|call, _| match call {
            0 => Step::fail(status(500)),
            1 => Step::answer("a").broken_at(3, status(500)),
            _ => Step::answer("a"),
        });
        let limits = Limits::new(script.clone(), &LimitConfig::default().with_concurrency(n(1)));
        let request = request();
        let waits = async || tokio::time::timeout(seconds(1), limits.stream(&request)).await.is_err();
        limits.stream(&request).await.unwrap_err();
        let mut broken = limits.stream(&request).await.unwrap();
        assert!(waits().await, "a stream that goes on holds its place");
        while broken.next().await.is_some() {}
        let mut whole = limits.stream(&request).await.unwrap();
        while whole.next().await.is_some() {}
        let mut dropped = limits.stream(&request).await.unwrap();
        dropped.next().await.unwrap().unwrap();
        assert!(waits().await);
        drop(dropped);
        let waiting = limits.stream(&request).await.unwrap();
        // Whoever gives up waiting leaves no hole.
        assert!(waits().await);
        drop(waiting);
        assert!(!waits().await);
        drop((broken, whole));
        assert_eq!(script.calls(), 6);
    });
}

#[test]
fn requests_per_minute_come_evenly_and_in_order() {
    paused(async {
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = order.clone();
        let begin = Instant::now();
        let script = Script::new(move |_, request| {
            seen.lock().unwrap().push((request.model.clone(), begin.elapsed()));
            Step::answer("a")
        });
        let limits = Limits::new(script, &LimitConfig::default().with_requests_per_minute(n(6)));
        let requests: Vec<_> = (0..10)
            .map(|i| {
                let mut request = request();
                request.model = i.to_string();
                request
            })
            .collect();
        join_all(requests.iter().map(|request| limits.complete(request))).await;
        // Six at once, then one every ten seconds.
        for (i, (model, at)) in order.lock().unwrap().iter().enumerate() {
            let due = seconds(10 * (i as u64).saturating_sub(5));
            assert_eq!(*model, i.to_string());
            assert!(*at >= due && *at - due <= Duration::from_millis(10), "{i}: {at:?}");
        }
    });
}

#[test]
fn tokens_are_estimated_and_then_put_right() {
    // 600 tokens per minute are 10 per second. The request is estimated at 398 and its question's 2; what it takes is in its usage.
    for (used, failing, expected) in [(Some(2), false, 0), (Some(602), false, 40), (None, false, 20), (None, true, 0)] {
        paused(async {
            let script = Script::new(move |call, _| match used {
                _ if failing && call < 2 => Step::fail(status(500)),
                Some(used) => {
                    let end = Step::answer("a").pieces.pop().unwrap().1.unwrap();
                    Step::events([StreamEvent::Usage(usage(used, 0)), end])
                }
                None => Step::events([Step::answer("a").pieces.pop().unwrap().1.unwrap()]),
            });
            let limits = Limits::new(script, &LimitConfig::default().with_tokens_per_minute(n(600)));
            let request = request().with_max_tokens(398);
            let _ = limits.complete(&request).await;
            let begin = Instant::now();
            let _ = limits.complete(&request).await;
            // After a call of 602 tokens the bucket is at -2, and 402 are missing to 400; where nothing was said it is at 200.
            let waited = begin.elapsed();
            let due = seconds(expected);
            assert!(waited >= due && waited - due < seconds(1), "{used:?}: {waited:?}");
        });
    }
}

#[test]
fn bounds_are_a_file() {
    let config: LimitConfig = serde_json::from_str(r#"{"concurrency": 4}"#).unwrap();
    assert_eq!(config, LimitConfig::default().with_concurrency(n(4)));
    for wrong in [r#"{"concurrency": 0}"#, r#"{"concurrency": -1}"#, r#"{"parallel": 1}"#] {
        assert!(serde_json::from_str::<LimitConfig>(wrong).is_err(), "{wrong}");
    }
}
