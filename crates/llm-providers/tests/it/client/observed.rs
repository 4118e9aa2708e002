//! Spans and metrics, against the names of OpenTelemetry's conventions for generative AI.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use llm_providers::client::{Metrics, Observed, Retry, RetryPolicy, Series};
use llm_providers::{LlmProvider, Request, StreamEvent, Usage};
use serde_json::json;

use super::capture::{Capture, Fields};
use super::script::{Script, Step, answer_events, block, delta, end, paused, request, start, status, usage};

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn full_usage() -> Usage {
    let mut usage = usage(100, 20);
    (usage.cached_input, usage.cache_write, usage.reasoning) = (Some(60), Some(30), Some(7));
    usage
}

fn full_request() -> Request {
    let mut request = request().with_temperature(0.5).with_max_tokens(64).with_seed(7);
    (request.top_p, request.top_k) = (Some(0.9), Some(40));
    (request.presence_penalty, request.frequency_penalty) = (Some(0.25), Some(-0.25));
    request.stop = vec!["the user's word".to_owned()];
    request
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn one_span_of_a_call_with_its_attempts_inside() {
    let ((), kept) = Capture::of(|| {
        paused(async {
            let script = Script::new(|call, _| match call {
                0 => Step::fail(status(503)),
                _ => Step::events([start(), block(), delta("a"), StreamEvent::Usage(full_usage()), end()]),
            });
            let retry = Retry::with_policy(script, RetryPolicy::openai().with_seed(1), Arc::default());
            let observed = Observed::new(retry, Arc::default());
            observed.complete(&full_request()).await.unwrap();
        });
    });
    let [(name, span)] = &kept.spans[..] else { panic!("{} spans", kept.spans.len()) };
    assert_eq!(*name, "gen_ai.client.operation");
    let expected = fields(&[
        ("otel.name", "chat model-1"),
        ("otel.kind", "client"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "script"),
        ("gen_ai.request.model", "model-1"),
        ("gen_ai.request.stream", "false"),
        ("gen_ai.request.temperature", "0.5"),
        ("gen_ai.request.top_p", "0.9"),
        ("gen_ai.request.top_k", "40"),
        ("gen_ai.request.max_tokens", "64"),
        ("gen_ai.request.seed", "7"),
        ("gen_ai.request.presence_penalty", "0.25"),
        ("gen_ai.request.frequency_penalty", "-0.25"),
        ("gen_ai.output.type", "text"),
        ("gen_ai.response.id", "id-1"),
        ("gen_ai.response.model", "model-1"),
        ("gen_ai.response.finish_reasons", "[\"stop\"]"),
        ("gen_ai.usage.input_tokens", "100"),
        ("gen_ai.usage.output_tokens", "20"),
        ("gen_ai.usage.cache_read.input_tokens", "60"),
        ("gen_ai.usage.cache_creation.input_tokens", "30"),
        ("gen_ai.usage.reasoning.output_tokens", "7"),
        ("server.address", "script.example"),
        ("server.port", "8443"),
    ]);
    assert_eq!(*span, expected);
    let [(Some(0), event)] = &kept.events[..] else { panic!("{} events", kept.events.len()) };
    assert_eq!(
        (event["attempt"].as_str(), event["error.type"].as_str(), event["status"].as_str()),
        ("1", "overloaded", "503")
    );
}

#[test]
fn errors_and_dropped_calls_have_their_type() {
    for (drop_early, expected) in [(false, "overloaded"), (true, "cancelled")] {
        let ((), kept) = Capture::of(|| {
            paused(async {
                let script = Script::new(|_, _| Step::events(answer_events("a")).broken_at(3, status(529)));
                let metrics = Arc::new(Metrics::new());
                let observed = Observed::new(script, metrics.clone());
                let mut stream = observed.stream(&request()).await.unwrap();
                stream.next().await.unwrap().unwrap();
                while !drop_early && stream.next().await.is_some() {}
                drop(stream);
                let snapshot = metrics.snapshot();
                let duration = snapshot.series.iter().find(|series| series.name == "gen_ai.client.operation.duration");
                assert_eq!(duration.unwrap().attributes["error.type"], json!(expected));
            });
        });
        assert_eq!(kept.spans[0].1["error.type"], expected);
        assert_eq!(kept.spans[0].1["otel.status_code"], "ERROR");
        assert_eq!(kept.spans[0].1["gen_ai.response.model"], "model-1");
    }
}

#[test]
fn the_four_metrics() {
    let snapshot = paused(async {
        let script = Script::named("gcp.gemini", |_, _| Step {
            head: ms(100),
            pieces: vec![
                (ms(0), Ok(start())),
                (ms(100), Ok(block())),
                (ms(0), Ok(delta("a"))),
                (ms(50), Ok(delta("b"))),
                (ms(300), Ok(delta("c"))),
                (ms(0), Ok(StreamEvent::Usage(full_usage()))),
                (ms(450), Ok(end())),
            ],
            ..Step::default()
        });
        let metrics = Arc::new(Metrics::new());
        let observed = Observed::new(script, metrics.clone());
        for _ in 0..2 {
            observed.stream(&request()).await.unwrap().response().await.unwrap();
        }
        metrics.snapshot()
    });
    let find = |name: &str, token_type: Option<&str>| -> &Series {
        let of = |series: &&Series| {
            series.name == name
                && series.attributes.get("gen_ai.token.type").and_then(|value| value.as_str()) == token_type
        };
        snapshot.series.iter().find(of).unwrap()
    };
    let common = json!({
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "model-1",
        "gen_ai.response.model": "model-1",
        "server.address": "script.example",
        "server.port": 8443,
    });
    // The boundaries as the conventions list them.
    let tokens: Vec<f64> = (0..14).map(|k| 4_f64.powi(k)).collect();
    let seconds: Vec<f64> = (0..14).map(|k| f64::from(1 << k) / 100.0).collect();
    for (name, token_type, unit, count, sum, boundaries, filled) in [
        ("gen_ai.client.token.usage", Some("input"), "{token}", 2, 200.0, &tokens, vec![(4, 2)]),
        ("gen_ai.client.token.usage", Some("output"), "{token}", 2, 40.0, &tokens, vec![(3, 2)]),
        ("gen_ai.client.operation.duration", None, "s", 2, 2.0, &seconds, vec![(7, 2)]),
        ("gen_ai.client.operation.time_to_first_chunk", None, "s", 2, 0.4, &seconds, vec![(5, 2)]),
        ("gen_ai.client.operation.time_per_output_chunk", None, "s", 4, 0.7, &seconds, vec![(3, 2), (5, 2)]),
    ] {
        let series = find(name, token_type);
        assert_eq!((series.unit, series.count, &series.boundaries), (unit, count, boundaries), "{name}");
        assert!((series.sum - sum).abs() < 1e-9, "{name}: {}", series.sum);
        for (bucket, n) in series.buckets.iter().enumerate() {
            let expected = filled.iter().find(|(place, _)| *place == bucket).map_or(0, |(_, n)| *n);
            assert_eq!(*n, expected, "{name}: bucket {bucket}");
        }
        let mut expected = common.clone();
        if let Some(token_type) = token_type {
            expected["gen_ai.token.type"] = json!(token_type);
        }
        assert_eq!(json!(series.attributes), expected, "{name}");
    }
    assert_eq!(snapshot.series.len(), 5);
    let read: serde_json::Value = serde_json::from_str(&snapshot.to_json()).unwrap();
    assert_eq!(read["series"].as_array().unwrap().len(), 5);
}
