//! Exchanges recorded and played.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use llm_providers::transport::{Body, Cuts, Ending, RecordTransport, ReplayTransport, Transport};
use llm_providers::{BoxFuture, Error, Result};

/// Answers each request with the next of its scripts.
#[derive(Debug)]
struct Scripted(Mutex<Vec<Vec<&'static [u8]>>>);

impl Transport for Scripted {
    fn send(&self, _request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>> {
        let pieces = self.0.lock().unwrap().remove(0);
        let pieces = pieces.into_iter().map(|piece| match piece {
            b"break" => Err(Error::BudgetSpent { budget: "stands for a broken connection".to_owned() }),
            piece => Ok(Bytes::from_static(piece)),
        });
        let mut response = http::Response::new(Box::pin(futures_util::stream::iter(pieces)) as Body);
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response.headers_mut().insert("set-cookie", "planted-cookie".parse().unwrap());
        Box::pin(async { Ok(response) })
    }
}

fn ask(body: &str) -> http::Request<Bytes> {
    let mut request = http::Request::post("http://host/v1/chat?key=planted-query").body(Bytes::from(body.to_owned()));
    let mut key: http::HeaderValue = "Bearer planted-key".parse().unwrap();
    key.set_sensitive(true);
    request.as_mut().unwrap().headers_mut().insert("authorization", key);
    request.unwrap()
}

async fn pieces(transport: &impl Transport, body: &str) -> Result<Vec<Result<Bytes>>> {
    let response = transport.send(ask(body)).await?;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Ok(response.into_body().collect().await)
}

async fn bodies(transport: &impl Transport, body: &str) -> Vec<Bytes> {
    pieces(transport, body).await.unwrap().into_iter().map(Result::unwrap).collect()
}

const FIRST: &[&[u8]] = &[b"data: \xE2\x82", b"\xAC planted", b"-key\n\n", b"data: [DONE]\n\n"];
const QUESTION: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "planted-key?"}]}"#;
const TURNED: &str = r#"{"messages": [{"content": "***********?", "role": "user"}], "model": "m"}"#;

async fn record(path: &std::path::Path) {
    let scripts = vec![FIRST.to_vec(), vec![b"again"], vec![b"half", b"break"]];
    let recorder = RecordTransport::new(Arc::new(Scripted(Mutex::new(scripts))), path).unwrap();
    assert_eq!(bodies(&recorder, QUESTION).await, FIRST);
    assert_eq!(bodies(&recorder, QUESTION).await, ["again"]);
    assert_eq!(pieces(&recorder, "not json").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_recording_plays_as_it_was_and_holds_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    record(&path).await;
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().count(), 3);
    assert!(!written.contains("planted") && written.contains("text/event-stream"), "{written}");

    let transport = ReplayTransport::open(&path).unwrap();
    let first = bodies(&transport, TURNED).await;
    assert_eq!(first, [FIRST[0], &b"\xAC *******"[..], b"****\n\n", FIRST[3]]);
    assert_eq!(bodies(&transport, TURNED).await, ["again"]);
    assert_eq!(bodies(&transport, TURNED).await, ["again"]);
    let broken = pieces(&transport, "not json").await.unwrap();
    assert!(matches!(&broken[..], [Ok(_), Err(Error::Transport { .. })]), "{broken:?}");
}

#[tokio::test]
async fn what_was_not_recorded_is_told_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    record(&path).await;
    let transport = ReplayTransport::open(&path).unwrap();
    let other = TURNED.replace("user", "planted").replace("\"m\"", "\"m\", \"seed\": 1");
    let error = pieces(&transport, &other).await.unwrap_err();
    assert!(matches!(error, Error::Unrecorded { .. }));
    let expected =
        "the recording has no answer for this request: in the nearest one, messages[0].role differs, seed is new";
    assert_eq!(error.to_string(), expected);
    let mut elsewhere = ask(TURNED);
    *elsewhere.uri_mut() = "http://host/v1/models?key=planted".parse().unwrap();
    let error = transport.send(elsewhere).await.err().unwrap().to_string();
    assert!(error.ends_with("nothing was recorded of POST /v1/models"), "{error}");

    std::fs::write(&path, "{\"planted\": 1}\n").unwrap();
    let error = ReplayTransport::open(&path).unwrap_err().to_string();
    assert_eq!(error, "recording: line 1, column 10: expected a recorded exchange");
}

#[tokio::test]
async fn bodies_are_cut_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    record(&path).await;
    let open = || ReplayTransport::open(&path).unwrap();
    let whole = bodies(&open().with_cuts(Cuts::Whole), TURNED).await.remove(0);
    for (cuts, n_pieces) in [(Cuts::EveryByte, Some(whole.len())), (Cuts::Random(1), None), (Cuts::Random(2), None)] {
        let cut = bodies(&open().with_cuts(cuts), TURNED).await;
        assert_eq!(cut.concat(), whole);
        assert_eq!(n_pieces.unwrap_or(cut.len()), cut.len());
        assert_eq!(bodies(&open().with_cuts(cuts), TURNED).await, cut);
    }
    for length in 0..whole.len() {
        let cut = bodies(&open().with_ending(Ending::Cut(length)), TURNED).await;
        assert_eq!(cut.concat(), whole[..length]);
        let broken = pieces(&open().with_ending(Ending::Broken(length)).with_cuts(Cuts::Whole), TURNED).await.unwrap();
        assert!(matches!(broken.last(), Some(Err(Error::Transport { .. }))));
    }
}
