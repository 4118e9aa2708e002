//! What an open stream holds in memory. In a process of its own: nothing else may allocate meanwhile.
#![cfg(all(feature = "http", feature = "openai"))]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use llm_providers::transport::{HyperConfig, HyperTransport, Proxy};
use llm_providers::{Endpoint, Error, HttpProvider, LlmProvider, Message, OpenAi, Request, ResponseStream};
use peak_alloc::PeakAlloc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What an open stream may hold beyond the text it has gathered, in bytes.
const BOUND: usize = 64 << 10;

const TEXT: &str = "{\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"four\"}}]}";

/// A server that sends `piece` as fast as it can, without allocating while it does.
async fn serve(piece: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(send(stream, piece));
        }
    });
    address
}

async fn send(mut stream: TcpStream, piece: &'static [u8]) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
    while stream.write_all(piece).await.is_ok() {}
}

/// Events of this data, many in a piece.
fn events(data: &str) -> &'static [u8] {
    format!("{data}\n\n").repeat((64 << 10) / (data.len() + 2)).leak().as_bytes()
}

fn provider(address: SocketAddr) -> HttpProvider<OpenAi> {
    let transport = HyperTransport::new(HyperConfig::default().with_proxy(Proxy::None)).unwrap();
    HttpProvider::new(OpenAi::new(Endpoint::new(&format!("http://{address}/v1")).unwrap()), Arc::new(transport))
}

async fn open(provider: &HttpProvider<OpenAi>) -> ResponseStream {
    provider.stream(&Request::new("m", [Message::user("hello")])).await.unwrap()
}

/// A server, on a thread of its own.
fn server(piece: &'static [u8]) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = runtime.block_on(serve(piece));
    (runtime, address)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// 300 streams whose readers stand still, behind a server that does not.
#[test]
fn a_stream_that_is_not_read_holds_little() {
    const STREAMS: usize = 300;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_runtime, address) = server(events(&format!("data: {TEXT}")));
    block_on(async {
        let provider = provider(address);
        // What the first stream brings along once is not counted.
        open(&provider).await.next().await.unwrap().unwrap();
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = open(&provider).await;
            for _ in 0..50 {
                stream.next().await.unwrap().unwrap();
            }
            streams.push(stream);
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let held = (ALLOCATOR.current_usage() - before) / STREAMS;
        let peak = (ALLOCATOR.peak_usage() - before) / STREAMS;
        println!("an open stream holds {held} bytes, {peak} at most");
        assert!(peak < BOUND, "{peak} bytes for each open stream");
        assert!(streams.iter().all(|stream| stream.so_far().text().len() >= 4 * 40));
    });
}

/// 100 MB of what leaves no text behind: signs of life, chunks that say nothing.
#[test]
fn a_long_stream_holds_no_more_than_a_short_one() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for data in
        [":", "data: {\"usage\":{}}", "data: {\"choices\":[]}", "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}"]
    {
        let (_runtime, address) = server(events(data));
        block_on(async {
            let provider = provider(address);
            drop(open(&provider).await);
            let before = ALLOCATOR.current_usage();
            ALLOCATOR.reset_peak_usage();
            let mut stream = open(&provider).await;
            let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
            while std::time::Instant::now() < until {
                if tokio::time::timeout(std::time::Duration::from_millis(50), stream.next())
                    .await
                    .is_ok_and(|event| event.is_none())
                {
                    panic!("{data}: the stream ended");
                }
            }
            let peak = ALLOCATOR.peak_usage() - before;
            println!("{data:?} for a second: {peak} bytes at most");
            assert!(peak < BOUND, "{data}: {peak} bytes");
        });
    }
}

/// A line without an end is given up at the bound of an event, and takes little more than that.
#[test]
fn an_endless_line_is_bounded() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_runtime, address) = server(
        b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".repeat(800).leak(),
    );
    block_on(async {
        let provider = provider(address);
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let failed = open(&provider).await.response().await.unwrap_err();
        assert!(matches!(failed, Error::TooLarge { .. }), "{failed:?}");
        let peak = ALLOCATOR.peak_usage() - before;
        println!("an endless line: {peak} bytes at most");
        // The buffer doubles as it grows to 32 MiB: old and new are there at once for a moment.
        assert!(peak < 3 * (32 << 20) + BOUND, "{peak} bytes");
    });
}

/// The text itself, and the doubling of what holds it.
#[test]
fn a_long_text_is_held_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_runtime, address) = server(events(&format!("data: {TEXT}")));
    block_on(async {
        let provider = provider(address);
        open(&provider).await.next().await.unwrap().unwrap();
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut stream = open(&provider).await;
        for _ in 0..300_000 {
            stream.next().await.unwrap().unwrap();
        }
        let length = stream.so_far().text().len();
        let peak = ALLOCATOR.peak_usage() - before;
        println!("a text of {length} bytes: {peak} bytes at most");
        // `so_far().text()` above is a copy; growing, a text may be there once and a half again.
        assert!(length > 1_000_000 && peak < 4 * length + BOUND, "{peak} bytes");
    });
}
