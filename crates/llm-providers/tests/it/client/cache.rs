//! Answers given before.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use llm_providers::client::{Cache, CacheConfig, CacheWhen, ResponseCache};
use llm_providers::{Error, LlmProvider, Message, Request, Stop, StopReason, StreamEvent};

use super::script::{Script, Step, answer_events, paused, request, start, status};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn cache(config: CacheConfig) -> Arc<ResponseCache> {
    Arc::new(ResponseCache::new(config).unwrap())
}

/// Answers each call with its number.
fn counting() -> Script {
    Script::new(|call, _| Step::answer(&call.to_string()))
}

fn fixed(question: &str) -> Request {
    Request::new("model-1", [Message::user(question)]).with_temperature(0.0)
}

#[test]
fn the_same_request_is_asked_once() {
    paused(async {
        let script = counting();
        let answers = cache(CacheConfig::default());
        let cached = Cache::new(script.clone(), answers.clone());
        let first = cached.complete(&fixed("a")).await.unwrap();
        assert_eq!(cached.complete(&fixed("a")).await.unwrap(), first);
        let streamed = cached.stream(&fixed("a")).await.unwrap().response().await.unwrap();
        assert_eq!(streamed, first);
        let mut others = vec![fixed("b"), fixed("a").with_max_tokens(5), fixed("a").with_extra("k", 1)];
        others.push(Request::new("model-2", [Message::user("a")]).with_temperature(0.0));
        for (n, other) in others.iter().enumerate() {
            assert_eq!(cached.complete(other).await.unwrap().text(), (n + 1).to_string());
        }
        assert_eq!((answers.hits(), answers.misses()), (2, 5));
        // Another provider's answers are its own.
        let other = Cache::new(Script::named("other", |_, _| Step::answer("other")), answers);
        assert_eq!(other.complete(&fixed("a")).await.unwrap().text(), "other");
    });
}

#[test]
fn draws_are_new_each_time_unless_all_is_cached() {
    for (when, temperature, seed, kept) in [
        (CacheWhen::Deterministic, None, None, false),
        (CacheWhen::Deterministic, Some(0.7), None, false),
        (CacheWhen::Deterministic, Some(0.7), Some(1), true),
        (CacheWhen::Deterministic, Some(0.0), None, true),
        (CacheWhen::Always, Some(0.7), None, true),
    ] {
        paused(async {
            let script = counting();
            let cached = Cache::new(script.clone(), cache(CacheConfig::default().with_when(when)));
            let mut request = request();
            (request.temperature, request.seed) = (temperature, seed);
            cached.complete(&request).await.unwrap();
            cached.complete(&request).await.unwrap();
            assert_eq!(script.calls(), if kept { 1 } else { 2 }, "{when:?} {temperature:?} {seed:?}");
        });
    }
}

#[test]
fn streams_fill_the_cache_when_they_are_whole() {
    paused(async {
        let script = Script::new(|call, _| match call {
            0 => Step::events(answer_events("broken")).broken_at(4, status(500)),
            1 => Step::events([start()]),
            2 => {
                let mut events = answer_events("failed");
                *events.last_mut().unwrap() = StreamEvent::End(Stop { reason: StopReason::Error, raw: None });
                Step::events(events)
            }
            _ => Step::answer("whole"),
        });
        let cached = Cache::new(script.clone(), cache(CacheConfig::default()));
        let stream = async || cached.stream(&fixed("a")).await.unwrap();
        stream().await.response().await.unwrap_err();
        stream().await.response().await.unwrap_err();
        stream().await.response().await.unwrap();
        let mut dropped = stream().await;
        dropped.next().await.unwrap().unwrap();
        drop(dropped);
        assert_eq!(stream().await.response().await.unwrap().text(), "whole");
        assert_eq!(script.calls(), 5);
        assert_eq!(cached.complete(&fixed("a")).await.unwrap().text(), "whole");
        assert_eq!(script.calls(), 5);
    });
}

#[test]
fn calls_at_the_same_time_share_one_request() {
    paused(async {
        let script = Script::new(|call, _| Step::answer(&call.to_string()).after(seconds(10)));
        let answers = cache(CacheConfig::default());
        let cached = Cache::new(script.clone(), answers.clone());
        let request = fixed("a");
        let texts = join_all((0..100).map(|_| cached.complete(&request))).await;
        assert!(texts.iter().all(|answer| answer.as_ref().unwrap().text() == "0"));
        assert_eq!((script.calls(), answers.hits(), answers.misses()), (1, 99, 1));
    });
}

#[test]
fn when_the_caller_is_dropped_the_next_one_asks() {
    paused(async {
        let script = Script::new(|call, _| Step::answer(&call.to_string()).after(seconds(10)));
        let cached = Cache::new(script.clone(), cache(CacheConfig::default()));
        let request = fixed("a");
        let impatient = tokio::time::timeout(seconds(4), cached.complete(&request));
        let patient = async {
            tokio::time::sleep(seconds(1)).await;
            cached.complete(&request).await
        };
        let begin = tokio::time::Instant::now();
        let (impatient, patient) = tokio::join!(impatient, patient);
        assert!(impatient.is_err());
        assert_eq!(patient.unwrap().text(), "1");
        assert_eq!((begin.elapsed(), script.calls(), script.open()), (seconds(14), 2, 0));
    });
}

#[test]
fn a_failure_is_shared_and_not_kept() {
    paused(async {
        let script = Script::new(|call, _| match call {
            0 | 1 => Step::fail(status(529)).after(seconds(1)),
            _ => Step::answer("yes"),
        });
        let cached = Cache::new(script.clone(), cache(CacheConfig::default()));
        let request = fixed("a");
        for error in join_all((0..3).map(|_| cached.complete(&request))).await {
            let error = error.unwrap_err();
            assert!(matches!(&error, Error::Shared(_)));
            assert_eq!((error.status(), error.kind(), error.is_retryable()), (Some(529), "overloaded", true));
        }
        assert_eq!(script.calls(), 1);
        assert!(matches!(cached.complete(&request).await, Err(Error::Api(_))), "alone, the error is its own");
        assert_eq!(cached.complete(&request).await.unwrap().text(), "yes");
    });
}

#[test]
fn memory_is_bounded_and_the_least_used_leaves() {
    paused(async {
        let one = serde_json::to_vec(&counting().complete(&request()).await.unwrap()).unwrap().len();
        let script = Script::new(|_, request| Step::answer(&request.messages[0].text()));
        let answers = cache(CacheConfig::default().with_memory_bytes(3 * one));
        let cached = Cache::new(script.clone(), answers.clone());
        for question in ["a", "b", "c", "a", "d", "a", "c", "d"] {
            cached.complete(&fixed(question)).await.unwrap();
            assert!(answers.memory_bytes() <= 3 * one);
        }
        // `b` left for `d`; all others were there when they were asked for again.
        assert_eq!((script.calls(), answers.memory_bytes()), (4, 3 * one));
        cached.complete(&fixed("b")).await.unwrap();
        assert_eq!(script.calls(), 5);
        let long = "long ".repeat(one);
        cached.complete(&fixed(&long)).await.unwrap();
        assert_eq!(answers.memory_bytes(), 3 * one, "what is larger than all of it moves nothing out");
    });
}

#[test]
fn a_folder_keeps_answers() {
    let folder = tempfile::tempdir().unwrap();
    let config = CacheConfig::default().with_folder(folder.path().join("answers"));
    let files = || std::fs::read_dir(folder.path().join("answers")).unwrap().map(|file| file.unwrap().path());
    paused(async {
        let script = counting();
        let first = Cache::new(script.clone(), cache(config.clone())).complete(&fixed("a")).await.unwrap();
        assert_eq!(files().count(), 1);
        let again = Cache::new(script.clone(), cache(config.clone()));
        assert_eq!(again.complete(&fixed("a")).await.unwrap(), first);
        assert_eq!(script.calls(), 1);
        // A damaged file is no answer, and the next answer replaces it.
        for damage in [&b"{\"id\": \"id-1\", \"model"[..], b"", b"\xff"] {
            std::fs::write(files().next().unwrap(), damage).unwrap();
            let calls = script.calls();
            Cache::new(script.clone(), cache(config.clone())).complete(&fixed("a")).await.unwrap();
            assert_eq!(script.calls(), calls + 1);
            Cache::new(script.clone(), cache(config.clone())).complete(&fixed("a")).await.unwrap();
            assert_eq!((script.calls(), files().count()), (calls + 1, 1));
        }
    });
    let text = std::fs::read_to_string(files().next().unwrap()).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    let blocked = CacheConfig::default().with_folder(files().next().unwrap());
    let error = ResponseCache::new(blocked).unwrap_err();
    assert!(error.to_string().starts_with("cache.folder: cannot make "), "{error}");
}
