//! A server on loopback, in a process of its own, whose answers are ready before anyone asks.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::traffic::{Traffic, answer};

/// The argument that makes a benchmark the server.
const FLAG: &str = "--serve";

/// The server's process; it ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:port`.
    pub url: String,
}

impl Server {
    /// Starts this program once more, as the server.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).arg(FLAG).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("the server has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let url = line.trim().to_owned();
        anyhow::ensure!(url.starts_with("http://"), "the server did not start");
        Ok(Self { child, url })
    }

    /// Whether this process is to be the server.
    pub fn is_wanted() -> bool {
        std::env::args().nth(1).is_some_and(|argument| argument == FLAG)
    }

    /// Serves until killed. The model that is asked for says what comes: `whole`, or `realistic-N` and `small-N`, a stream of N words.
    ///
    /// # Errors
    /// If there is no port.
    pub fn serve() -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("http://{}", listener.local_addr()?);
            let answers: Arc<std::sync::Mutex<Vec<(String, Arc<Vec<u8>>)>>> = Arc::default();
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(converse(stream, answers.clone()));
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Answers = Arc<std::sync::Mutex<Vec<(String, Arc<Vec<u8>>)>>>;

async fn converse(mut stream: TcpStream, answers: Answers) -> Option<()> {
    let mut asked = Vec::new();
    let mut piece = vec![0; 16 << 10];
    loop {
        let length = loop {
            if let Some(length) = request_len(&asked) {
                break length;
            }
            match stream.read(&mut piece).await.ok()? {
                0 => return None,
                n => asked.extend_from_slice(&piece[..n]),
            }
        };
        let model = model(&asked[..length])?;
        asked.drain(..length);
        let answer = {
            let mut answers = answers.lock().ok()?;
            match answers.iter().find(|(name, _)| *name == model) {
                Some((_, answer)) => answer.clone(),
                None => {
                    let answer = Arc::new(response(&model));
                    answers.push((model, answer.clone()));
                    answer
                }
            }
        };
        stream.write_all(&answer).await.ok()?;
    }
}

/// The length of the first request, if it is whole.
fn request_len(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let whole = head + length.unwrap_or(0);
    (bytes.len() >= whole).then_some(whole)
}

fn model(request: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(request, b"\"model\":")? + 8;
    let text = std::str::from_utf8(&request[at..]).ok()?;
    text.split('"').nth(1).map(str::to_owned)
}

fn response(model: &str) -> Vec<u8> {
    let (kind, n_deltas) = model.split_once('-').unwrap_or((model, ""));
    let n_deltas = n_deltas.parse().unwrap_or(0);
    let events = match kind {
        "realistic" => Traffic::Realistic.events(n_deltas),
        "small" => Traffic::Small.events(n_deltas),
        _ => {
            let body = answer();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: ";
            return format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes();
        }
    };
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    // An event is a chunk, as servers write them that flush after each.
    for event in events {
        bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
