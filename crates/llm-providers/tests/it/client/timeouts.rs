//! Deadlines, to the millisecond.

use std::time::Duration;

use futures_util::StreamExt;
use llm_providers::client::{TimeoutConfig, Timeouts};
use llm_providers::{Deadline, Error, LlmProvider, StreamEvent};
use tokio::time::Instant;

use super::script::{Script, Step, block, delta, end, paused, request, start};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config() -> TimeoutConfig {
    TimeoutConfig::none().with_first_chunk(seconds(20)).with_idle(seconds(7)).with_total(seconds(30))
}

/// Reads a stream of these events, each after so many seconds; gives how many came, when reading ended, and the deadline that passed.
fn read(config: TimeoutConfig, head: u64, events: Vec<(u64, StreamEvent)>) -> (usize, Duration, Option<Deadline>) {
    paused(async {
        let mut events = Some(events);
        let script = Script::new(move |_, _| Step {
            head: seconds(head),
            pieces: events.take().unwrap().into_iter().map(|(after, event)| (seconds(after), Ok(event))).collect(),
            ..Step::default()
        });
        let provider = Timeouts::new(script.clone(), config);
        let begin = Instant::now();
        let mut n = 0;
        let mut failed = None;
        match provider.stream(&request()).await {
            Err(error) => failed = Some(error),
            Ok(mut stream) => {
                while let Some(event) = stream.next().await {
                    match event {
                        Ok(_) => n += 1,
                        Err(error) => failed = Some(error),
                    }
                }
                assert!(failed.is_none() || script.open() == 0, "what was waited for is dropped with the error");
            }
        }
        let elapsed = begin.elapsed();
        assert_eq!(script.open(), 0);
        let deadline = failed.map(|error| match error {
            Error::Timeout { deadline, .. } => deadline,
            error => panic!("{error}"),
        });
        (n, elapsed, deadline)
    })
}

#[test]
fn each_deadline_is_kept() {
    let ping = || StreamEvent::Ping;
    let total = |n| config().with_stream_total(seconds(n));
    for (name, config, head, events, expected) in [
        ("no head", config(), 1000, vec![], (0, 20, Some(Deadline::FirstChunk))),
        ("no head, no deadline", TimeoutConfig::none(), 1000, vec![(0, block()), (0, end())], (2, 1000, None)),
        ("a head alone", config(), 1, vec![(0, start()), (1000, block())], (1, 20, Some(Deadline::FirstChunk))),
        (
            "signs of life are not a first piece",
            config(),
            0,
            std::iter::repeat_with(|| (3, ping())).take(50).collect(),
            (6, 20, Some(Deadline::FirstChunk)),
        ),
        ("late but in time", config(), 19, vec![(0, block()), (0, end())], (2, 19, None)),
        ("idle", config(), 2, vec![(3, block()), (6, delta("a")), (1000, end())], (2, 18, Some(Deadline::Idle))),
        (
            "signs of life are life",
            config(),
            0,
            [(0, block())].into_iter().chain((0..50).map(|_| (6, ping()))).chain([(6, end())]).collect(),
            (52, 306, None),
        ),
        (
            "a long stream goes on",
            config(),
            0,
            [(0, block())].into_iter().chain((0..1000).map(|_| (5, delta("a")))).chain([(0, end())]).collect(),
            (1002, 5000, None),
        ),
        (
            "unless asked",
            total(12),
            0,
            [(0, block())].into_iter().chain((0..1000).map(|_| (5, delta("a")))).collect(),
            (3, 12, Some(Deadline::Total)),
        ),
        ("the head counts", total(12), 15, vec![(0, end())], (0, 12, Some(Deadline::Total))),
        ("the end is the end", total(12), 0, vec![(0, block()), (6, delta("a")), (6, end())], (3, 12, None)),
    ] {
        let (n, elapsed, deadline) = read(config, head, events);
        assert_eq!((n, elapsed, deadline), (expected.0, seconds(expected.1), expected.2), "{name}");
    }
}

#[test]
fn a_whole_answer_has_its_deadline() {
    paused(async {
        let script = Script::new(|_, _| Step::answer("late").after(seconds(31)));
        let provider = Timeouts::new(script.clone(), config());
        let begin = Instant::now();
        let error = provider.complete(&request()).await.unwrap_err();
        assert_eq!(error.to_string(), "no whole answer within 30s");
        assert!(error.is_retryable());
        assert_eq!((begin.elapsed(), script.open()), (seconds(30), 0));
    });
}

#[test]
fn a_slow_reader_is_not_idle() {
    paused(async {
        let script = Script::new(|_, _| Step::answer("all at once"));
        let mut stream = Timeouts::new(script, config()).stream(&request()).await.unwrap();
        let mut n = 0;
        while let Some(event) = stream.next().await {
            event.unwrap();
            n += 1;
            tokio::time::sleep(seconds(100)).await;
        }
        assert_eq!(n, 6);
    });
}

#[test]
fn deadlines_are_a_file() {
    let config: TimeoutConfig = serde_json::from_str(r#"{"idle_s": 0.5, "total_s": null}"#).unwrap();
    assert_eq!(config.idle, Some(Duration::from_millis(500)));
    assert_eq!((config.total, config.first_chunk, config.connect), (None, Some(seconds(300)), Some(seconds(5))));
    assert_eq!(serde_json::from_str::<TimeoutConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    for wrong in [r#"{"idle_s": -1}"#, r#"{"idle": 1}"#, r#"{"idle_s": "1m"}"#] {
        assert!(serde_json::from_str::<TimeoutConfig>(wrong).is_err(), "{wrong}");
    }
}
