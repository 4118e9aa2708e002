//! How fast streams are read. `cargo test --release -p llm-providers --test it openai_speed -- --ignored --nocapture`

use std::collections::VecDeque;
use std::time::Instant;

use llm_providers::{Protocol, StreamEvent};

use crate::openai_chat_answers::protocol;
use crate::openai_responses_answers::responses;

/// A stream as vendors send it: pieces of four letters.
fn stream(n_deltas: usize, delta: &str, end: &str) -> String {
    let event = format!("data: {delta}\n\n");
    event.repeat(n_deltas) + end
}

fn measure(name: &str, protocol: &impl Protocol, body: &str, n_deltas: usize) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let mut decoder = protocol.decoder();
        let mut events = VecDeque::new();
        let (mut n_seen, mut n_bytes) = (0, 0);
        let start = Instant::now();
        // As much as a socket gives at once.
        for piece in body.as_bytes().chunks(16 << 10) {
            decoder.push(piece, &mut events).unwrap();
            while let Some(event) = events.pop_front() {
                if let StreamEvent::BlockDelta { delta, .. } = event {
                    n_seen += 1;
                    n_bytes += delta.len();
                }
            }
        }
        decoder.finish(&mut events).unwrap();
        best = best.min(start.elapsed().as_secs_f64());
        assert_eq!((n_seen, n_bytes), (n_deltas, 4 * n_deltas));
    }
    let megabytes = body.len() as f64 / 1e6;
    println!("{name}: {:.2} M deltas/s, {:.0} MB/s", n_deltas as f64 / best / 1e6, megabytes / best);
}

#[test]
#[ignore = "measures, and means something in a release build alone"]
fn deltas_per_second() {
    const N: usize = 200_000;
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for (name, delta) in [
        ("small chunks", r#"{"id":"c","choices":[{"index":0,"delta":{"content":" abc"}}]}"#),
        (
            "OpenAI's chunks",
            r#"{"id":"chatcmpl-Cx1vWZ0XyLyYb6N1kHTfD8sYDnPqK","object":"chat.completion.chunk","created":1756315657,"model":"gpt-4.1-mini-2025-04-14","service_tier":"default","system_fingerprint":"fp_4f3d32ad4e","choices":[{"index":0,"delta":{"content":" abc"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"dYwZ5Qn"}"#,
        ),
        (
            "llama.cpp's chunks",
            r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" abc"}}],"created":1756315657,"id":"chatcmpl-oSgXxJjCLyYb6N1kHTfD8sYDnPqK","model":"Qwen3-1.7B-Q4_K_M.gguf","system_fingerprint":"b6341-4b20d8b9","object":"chat.completion.chunk"}"#,
        ),
    ] {
        measure(name, &protocol(), &stream(N, delta, end), N);
    }
    let event = r#"{"type":"response.output_text.delta","item_id":"msg_68af1b2c3d4e5f","output_index":0,"content_index":0,"delta":" abc","logprobs":[],"sequence_number":17,"obfuscation":"dYwZ5Qn"}"#;
    let end = "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]}}\n\n";
    measure("events of the Responses API", &responses(), &stream(N, event, end), N);
}
