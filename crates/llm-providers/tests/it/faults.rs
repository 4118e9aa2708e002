//! What servers and networks do wrong, over real sockets: each a typed error within its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use llm_providers::client::{TimeoutConfig, Timeouts};
use llm_providers::transport::{HyperConfig, HyperTransport, Proxy};
use llm_providers::{
    ApiErrorKind, BoxFuture, Deadline, Endpoint, Error, HttpProvider, LlmProvider, Message, OpenAi, Phase, Request,
};

use crate::server::{Peer, Server, serve};

/// Every deadline of these tests.
const DEADLINE: Duration = Duration::from_millis(600);
/// How late a test may be on a machine with other work.
const SLACK: Duration = Duration::from_secs(20);

type Provider = Timeouts<HttpProvider<OpenAi>>;

fn provider(server: &Server) -> Provider {
    let transport = HyperTransport::new(HyperConfig::default().with_proxy(Proxy::None)).unwrap();
    let endpoint = Endpoint::new(&server.url("/v1")).unwrap().with_key(Some("planted-key".into()));
    let timeouts = TimeoutConfig::none().with_first_chunk(DEADLINE).with_idle(DEADLINE).with_total(DEADLINE);
    Timeouts::new(HttpProvider::new(OpenAi::new(endpoint), Arc::new(transport)), timeouts)
}

fn question() -> Request {
    Request::new("m", [Message::user("planted question")])
}

fn chunk(text: &str) -> String {
    format!(
        "data: {{\"id\":\"1\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    )
}

const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const WHOLE: &str = r#"{"id":"1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"planted answer"},"finish_reason":"stop"}]}"#;

type Behave = fn(Peer) -> BoxFuture<'static, ()>;

async fn ask_whole(provider: &Provider) -> Result<String, Error> {
    Ok(provider.complete(&question()).await?.text())
}

async fn ask_stream(provider: &Provider) -> Result<String, Error> {
    Ok(provider.stream(&question()).await?.response().await?.text())
}

/// Asks twice, for a whole answer and for a stream, and gives what came of it.
async fn ask(behave: Behave) -> [Result<String, Error>; 2] {
    let server = serve(behave).await;
    let provider = provider(&server);
    let start = Instant::now();
    let answers = [ask_whole(&provider).await, ask_stream(&provider).await];
    assert!(start.elapsed() < 2 * DEADLINE + SLACK, "{:?}", start.elapsed());
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        let mut shown = format!("{error} {error:?}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            shown += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        assert!(!shown.contains("planted"), "{shown}");
    }
    answers
}

/// Checks that both ways of asking give an error that `expected` accepts.
async fn check(name: &str, behave: Behave, expected: fn(&Error) -> bool) {
    check_each(name, behave, [expected, expected]).await;
}

async fn check_each(name: &str, behave: Behave, expected: [fn(&Error) -> bool; 2]) {
    for ((answer, expected), mode) in ask(behave).await.into_iter().zip(expected).zip(["whole", "stream"]) {
        match answer {
            Err(error) => assert!(expected(&error), "{name}, {mode}: {error:?}"),
            Ok(_) => panic!("{name}, {mode}: an answer"),
        }
    }
}

fn is_broken(error: &Error) -> bool {
    matches!(error, Error::Transport { phase: Phase::Body, .. })
}

fn is_unanswered(error: &Error) -> bool {
    matches!(error, Error::Transport { phase: Phase::Send, .. })
}

fn is_decode(error: &Error) -> bool {
    matches!(error, Error::Decode { .. })
}

fn is_incomplete(error: &Error) -> bool {
    matches!(error, Error::Incomplete { .. })
}

fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::TooLarge { .. })
}

fn is_late(error: &Error) -> bool {
    matches!(error, Error::Timeout { deadline: Deadline::Total, .. })
}

fn is_late_first(error: &Error) -> bool {
    matches!(error, Error::Timeout { deadline: Deadline::FirstChunk, .. })
}

fn is_late_next(error: &Error) -> bool {
    matches!(error, Error::Timeout { deadline: Deadline::Idle, .. })
}

/// Whether a request, as it came, asks for a stream.
async fn wants_stream(peer: &mut Peer) -> Option<bool> {
    let asked = peer.request().await?;
    Some(String::from_utf8(asked.body).unwrap().contains("\"stream\":true"))
}

async fn answer_all(mut peer: Peer, status: u16, headers: &str, body: &str) {
    while peer.request().await.is_some() {
        peer.answer(status, headers, body).await;
    }
}

const JSON: &str = "content-type: application/json\r\n";

/// Begins a chunked answer of the wanted kind; false where the client has hung up.
async fn begin(peer: &mut Peer) -> bool {
    let Some(stream) = wants_stream(peer).await else { return false };
    if stream {
        peer.begin_stream().await;
        peer.chunk(chunk("planted answer")).await
    } else {
        peer.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await;
        peer.chunk(&WHOLE[..40]).await
    }
}

#[tokio::test]
async fn statuses_become_typed_errors() {
    let cases: [(u16, Behave, ApiErrorKind); 6] = [
        (408, |peer| Box::pin(answer_all(peer, 408, JSON, ERROR)), ApiErrorKind::Timeout),
        (409, |peer| Box::pin(answer_all(peer, 409, JSON, ERROR)), ApiErrorKind::Conflict),
        (
            429,
            |peer| Box::pin(answer_all(peer, 429, "retry-after: 7\r\nx-request-id: r1\r\n", ERROR)),
            ApiErrorKind::RateLimit,
        ),
        (500, |peer| Box::pin(answer_all(peer, 500, JSON, "")), ApiErrorKind::Server),
        (
            503,
            |peer| Box::pin(answer_all(peer, 503, "content-type: text/html\r\n", "<h1>busy</h1>")),
            ApiErrorKind::Overloaded,
        ),
        (529, |peer| Box::pin(answer_all(peer, 529, JSON, ERROR)), ApiErrorKind::Overloaded),
    ];
    const ERROR: &str = r#"{"error":{"message":"wait: planted question","type":"t","code":"c"}}"#;
    for (status, behave, kind) in cases {
        for answer in ask(behave).await {
            let error = answer.unwrap_err();
            let api = error.api().unwrap_or_else(|| panic!("{status}: {error:?}"));
            assert_eq!((api.status, api.kind, error.is_retryable()), (status, kind, true));
            if status == 429 {
                assert_eq!((error.retry_after(), error.request_id()), (Some(Duration::from_secs(7)), Some("r1")));
            }
        }
    }
}

#[tokio::test]
async fn errors_that_waiting_does_not_mend_are_not_retryable() {
    const QUOTA: &str = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
    check(
        "quota",
        |peer| Box::pin(answer_all(peer, 429, JSON, QUOTA)),
        |error| error.api().is_some_and(|api| api.kind == ApiErrorKind::Quota) && !error.is_retryable(),
    )
    .await;
    check(
        "a redirection",
        |peer| Box::pin(answer_all(peer, 307, "location: http://127.0.0.1:9/v1\r\n", "")),
        |error| error.status() == Some(307) && !error.is_retryable(),
    )
    .await;
    check(
        "what was asked, given back",
        |peer| Box::pin(answer_all(peer, 400, JSON, r#"{"error":{"message":"bad: planted question (planted-key)"}}"#)),
        |error| error.status() == Some(400) && !error.is_retryable() && error.to_string().contains("bad: [...]"),
    )
    .await;
}

#[tokio::test]
async fn an_error_is_an_error_however_its_body_goes() {
    check(
        "an error that breaks off",
        |mut peer| {
            Box::pin(async move {
                peer.request().await;
                peer.send("HTTP/1.1 500 Said\r\ncontent-length: 1000\r\n\r\n{\"error\":").await;
            })
        },
        |error| error.status() == Some(500),
    )
    .await;
    check(
        "an error of 100 MB",
        |mut peer| {
            Box::pin(async move {
                peer.request().await;
                peer.send("HTTP/1.1 502 Said\r\ncontent-length: 100000000\r\n\r\n").await;
                while peer.send([b'x'; 8192]).await {}
            })
        },
        |error| error.status() == Some(502),
    )
    .await;
}

#[tokio::test]
async fn broken_connections_are_told_by_when_they_broke() {
    check(
        "closed before an answer",
        |mut peer| {
            Box::pin(async move {
                peer.request().await;
            })
        },
        is_unanswered,
    )
    .await;
    check(
        "reset before an answer",
        |mut peer| {
            Box::pin(async move {
                peer.request().await;
                peer.reset();
            })
        },
        is_unanswered,
    )
    .await;
    check(
        "reset in the answer",
        |mut peer| {
            Box::pin(async move {
                begin(&mut peer).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                peer.reset();
            })
        },
        is_broken,
    )
    .await;
    check(
        "chunks without the last",
        |mut peer| {
            Box::pin(async move {
                begin(&mut peer).await;
            })
        },
        is_broken,
    )
    .await;
    check(
        "a chunk without a size",
        |mut peer| {
            Box::pin(async move {
                begin(&mut peer).await;
                peer.send("zz\r\n").await;
                peer.until_closed().await;
            })
        },
        is_broken,
    )
    .await;
    check(
        "a length that is too long",
        |mut peer| {
            Box::pin(async move {
                let stream = wants_stream(&mut peer).await == Some(true);
                let (kind, body) =
                    if stream { ("text/event-stream", chunk("x")) } else { ("application/json", WHOLE.to_owned()) };
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len() + 9);
                peer.send(head + &body).await;
            })
        },
        is_broken,
    )
    .await;
}

#[tokio::test]
async fn answers_that_end_early_are_not_taken_for_whole() {
    check_each(
        "a length that is too short",
        |mut peer| {
            Box::pin(async move {
                let stream = wants_stream(&mut peer).await == Some(true);
                let (kind, body) = if stream {
                    ("text/event-stream", chunk("x") + END)
                } else {
                    ("application/json", WHOLE.to_owned())
                };
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len() - 9);
                peer.send(head + &body).await;
            })
        },
        [is_decode, is_incomplete],
    )
    .await;
    check_each(
        "chunks that end well and too early",
        |mut peer| {
            Box::pin(async move {
                while begin(&mut peer).await {
                    peer.chunk("").await;
                }
            })
        },
        [is_decode, is_incomplete],
    )
    .await;
    check_each(
        "a body that the connection's end ends, too early",
        |mut peer| {
            Box::pin(async move {
                let stream = wants_stream(&mut peer).await == Some(true);
                let kind = if stream { "text/event-stream" } else { "application/json" };
                let body = if stream { chunk("x") } else { WHOLE[..50].to_owned() };
                peer.send(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n{body}")).await;
            })
        },
        [is_decode, is_incomplete],
    )
    .await;
    check_each("nothing", |peer| Box::pin(answer_all(peer, 200, "", "")), [is_decode, is_incomplete]).await;
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    check_each("no answer", |mut peer| Box::pin(async move { peer.until_closed().await }), [is_late, is_late_first])
        .await;
    check_each(
        "silence in the answer",
        |mut peer| {
            Box::pin(async move {
                begin(&mut peer).await;
                peer.until_closed().await;
            })
        },
        [is_late, is_late_next],
    )
    .await;
    check_each(
        "drops that fill no event",
        |mut peer| {
            Box::pin(async move {
                begin(&mut peer).await;
                while peer.chunk(" ").await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        },
        [is_late, is_late_next],
    )
    .await;
}

#[tokio::test]
async fn slow_streams_that_go_on_are_read_to_their_end() {
    let server = serve(|mut peer: Peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await;
        peer.begin_stream().await;
        for _ in 0..12 {
            for piece in chunk("a").as_bytes().chunks(30) {
                peer.chunk(piece).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        peer.chunk(END).await;
        peer.until_closed().await;
    })
    .await;
    let start = Instant::now();
    assert_eq!(ask_stream(&provider(&server)).await.unwrap(), "aaaaaaaaaaaa");
    assert!(start.elapsed() > DEADLINE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_no_answer_is_refused() {
    check(
        "malformed JSON",
        |mut peer| {
            Box::pin(async move {
                while let Some(stream) = wants_stream(&mut peer).await {
                    let kind = if stream { "text/event-stream" } else { "application/json" };
                    let headers = format!("content-type: {kind}\r\n");
                    peer.answer(200, &headers, "data: {\"choices\":[{\"planted]}\n\n").await;
                }
            })
        },
        is_decode,
    )
    .await;
    check(
        "bytes that are not UTF-8",
        |mut peer| {
            Box::pin(async move {
                while let Some(stream) = wants_stream(&mut peer).await {
                    let (kind, body) = if stream {
                        ("text/event-stream", chunk("@"))
                    } else {
                        ("application/json", WHOLE.replace("answer", "@"))
                    };
                    let body: Vec<u8> = body.bytes().map(|byte| if byte == b'@' { 0xFF } else { byte }).collect();
                    peer.answer(200, &format!("content-type: {kind}\r\n"), body).await;
                }
            })
        },
        is_decode,
    )
    .await;
    let page = |peer| -> BoxFuture<'static, ()> {
        Box::pin(answer_all(peer, 200, "content-type: text/html; charset=utf-8\r\n", "<title>Sign in</title>"))
    };
    check("a page", page, |error| is_decode(error) && error.to_string().contains("text/html")).await;
    check("an image", |peer| Box::pin(answer_all(peer, 200, "content-type: image/png\r\n", "\u{89}PNG")), is_decode)
        .await;
    check(
        "something else than HTTP",
        |mut peer| {
            Box::pin(async move {
                peer.request().await;
                peer.send("SSH-2.0-OpenSSH_9.6\r\n").await;
                peer.until_closed().await;
            })
        },
        is_decode,
    )
    .await;
    check(
        "a head without end",
        |mut peer| {
            Box::pin(async move {
                peer.request().await;
                peer.send("HTTP/1.1 200 OK\r\nx: ").await;
                while peer.send([b'x'; 8192]).await {}
            })
        },
        is_decode,
    )
    .await;
    check(
        "a head of 300 lines",
        |peer| Box::pin(async move { answer_all(peer, 200, &"x-y: z\r\n".repeat(300), WHOLE).await }),
        is_decode,
    )
    .await;
    check_each(
        "an error in the answer",
        |mut peer| {
            Box::pin(async move {
                let error = r#"{"error":{"message":"overloaded: planted question","type":"server_error","code":null}}"#;
                while let Some(stream) = wants_stream(&mut peer).await {
                    if stream {
                        let body = format!("{}data: {error}\n\n", chunk("x"));
                        peer.answer(200, "content-type: text/event-stream\r\n", body).await;
                    } else {
                        peer.answer(200, JSON, error).await;
                    }
                }
            })
        },
        [|error| error.status() == Some(200); 2],
    )
    .await;
}

#[tokio::test]
async fn bodies_without_end_are_refused() {
    check(
        "an answer of 100 MB",
        |mut peer| {
            Box::pin(async move {
                let stream = wants_stream(&mut peer).await == Some(true);
                let kind = if stream { "text/event-stream" } else { "application/json" };
                let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 100000000\r\n\r\n");
                peer.send(head).await;
                let piece = vec![b'x'; 1 << 20];
                while peer.send(&piece).await {}
            })
        },
        is_too_large,
    )
    .await;
}

#[tokio::test]
async fn a_finished_stream_leaves_its_connection_for_the_next() {
    let server = serve(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.begin_stream().await;
            peer.chunk(chunk("a") + END).await;
            // As uvicorn does: the end of the body is a packet of its own.
            tokio::time::sleep(Duration::from_millis(5)).await;
            peer.chunk("").await;
        }
    })
    .await;
    let provider = provider(&server);
    for _ in 0..3 {
        assert_eq!(ask_stream(&provider).await.unwrap(), "a");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.n_connections(), 1);
    // The end of the body has not come yet: the next one takes another connection.
    ask_stream(&provider).await.unwrap();
    ask_stream(&provider).await.unwrap();
    assert_eq!(server.n_connections(), 2);
}

#[tokio::test]
async fn a_dropped_stream_closes_its_connection() {
    let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
    let server = serve(move |mut peer: Peer| {
        let closed = closed.clone();
        async move {
            peer.request().await;
            peer.begin_stream().await;
            while peer.chunk(chunk("a")).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            closed.send(()).unwrap();
        }
    })
    .await;
    let provider = provider(&server);
    let mut stream = provider.stream(&question()).await.unwrap();
    for _ in 0..5 {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    tokio::time::timeout(SLACK, was_closed.recv()).await.unwrap().unwrap();
}

/// 1,000 streams at once on one thread, each with a text of its own, from a server on another.
#[test]
fn a_thousand_streams_on_one_thread_are_all_right() {
    const STREAMS: usize = 1000;
    let server_runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = server_runtime.block_on(serve(|mut peer: Peer| async move {
        let asked = String::from_utf8(peer.request().await.unwrap().body).unwrap();
        let number: usize = asked.split("number ").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        peer.begin_stream().await;
        for i in 0..20 {
            peer.chunk(chunk(&format!("{},", number * i))).await;
            tokio::task::yield_now().await;
        }
        peer.chunk(END).await;
        peer.chunk("").await;
        peer.until_closed().await;
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let transport = HyperTransport::new(
        HyperConfig::default().with_proxy(Proxy::None).with_connect_timeout(SLACK).with_idle(SLACK, 0),
    );
    let endpoint = Endpoint::new(&server.url("/v1")).unwrap();
    let provider = Arc::new(HttpProvider::new(OpenAi::new(endpoint), Arc::new(transport.unwrap())));
    let texts = runtime.block_on(async {
        let tasks = (0..STREAMS).map(|number| {
            let provider = provider.clone();
            tokio::spawn(async move {
                let request = Request::new("m", [Message::user(format!("number {number}"))]);
                provider.stream(&request).await?.response().await.map(|response| response.text())
            })
        });
        futures_util::future::join_all(tasks).await
    });
    assert_eq!(server.n_connections(), STREAMS);
    for (number, text) in texts.into_iter().enumerate() {
        let expected: String = (0..20).map(|i| format!("{},", number * i)).collect();
        assert_eq!(text.unwrap().unwrap(), expected);
    }
}
