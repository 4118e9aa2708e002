//! A small server that speaks OpenAI's chat completions, with answers that a test makes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What the server says to one request.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    /// A text, whole or streamed as it was asked for.
    Text(String),
    /// The same with reasoning before it.
    Thought(String, String),
    /// A text that ends for want of tokens.
    Cut(String),
    /// An error of this status.
    Error(u16),
    /// After a while.
    Later(Duration, Box<Say>),
}

/// The server, until it is dropped (its threads end with the process).
#[derive(Debug)]
pub(crate) struct ChatServer {
    port: u16,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl ChatServer {
    /// Answers the body of each request with what `say` makes of it.
    pub(crate) fn new(say: impl Fn(&Value) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let say = Arc::new(say);
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (say, log) = (Arc::clone(&say), Arc::clone(&log));
                // Whoever leaves in the middle of an answer is no failure of the server.
                thread::spawn(move || while serve(&connection, say.as_ref(), &log).unwrap_or(false) {});
            }
        });
        Self { port, asked }
    }

    /// The target of a model here.
    pub(crate) fn target(&self, model: &str) -> String {
        format!("http://127.0.0.1:{}/v1#{model}", self.port)
    }

    /// The bodies that came, in their order.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

/// The text of a request's last message.
pub(crate) fn question(body: &Value) -> &str {
    let last = body["messages"].as_array().and_then(|messages| messages.last()).unwrap();
    last["content"].as_str().or_else(|| last["content"][0]["text"].as_str()).unwrap()
}

/// The text of a request's system message.
pub(crate) fn instructions(body: &Value) -> &str {
    let first = &body["messages"][0]["content"];
    first.as_str().or_else(|| first[0]["text"].as_str()).unwrap()
}

/// Reads one request and answers it; false where there is none.
fn serve(mut connection: &TcpStream, say: &dyn Fn(&Value) -> Say, log: &Mutex<Vec<Value>>) -> std::io::Result<bool> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if line.starts_with("GET") {
        respond(connection, 200, &json!({ "object": "list", "data": [{ "id": "m", "object": "model" }] }))?;
        return Ok(true);
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    log.lock().unwrap().push(body.clone());
    let mut said = say(&body);
    while let Say::Later(wait, then) = said {
        thread::sleep(wait);
        said = *then;
    }
    let (thought, text, finish) = match &said {
        Say::Error(status) => {
            let error =
                json!({ "error": { "message": "planted", "type": "server_error", "param": null, "code": null } });
            respond(connection, *status, &error)?;
            return Ok(true);
        }
        Say::Text(text) => ("", text.as_str(), "stop"),
        Say::Thought(thought, text) => (thought.as_str(), text.as_str(), "stop"),
        Say::Cut(text) => ("", text.as_str(), "length"),
        Say::Later(..) => ("", "", "stop"),
    };
    let count = |text: &str| text.split_whitespace().count();
    let usage = json!({ "prompt_tokens": 7, "completion_tokens": count(text), "total_tokens": 7 + count(text) });
    if body["stream"] != true {
        let message = json!({ "role": "assistant", "content": text, "reasoning_content": thought });
        let choice = json!({ "index": 0, "message": message, "finish_reason": finish, "logprobs": null });
        let answer = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice], "usage": usage });
        respond(connection, 200, &answer)?;
        return Ok(true);
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    connection.write_all(head.as_bytes())?;
    let mut event = |data: &str| {
        let line = format!("data: {data}\n\n");
        connection.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
        connection.flush()
    };
    let chunk = |choices: Value, usage: Value| {
        json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": choices, "usage": usage }).to_string()
    };
    let delta = |key: &str, piece: &str| json!([{ "index": 0, "delta": { key: piece }, "finish_reason": null }]);
    for (key, text) in [("reasoning_content", thought), ("content", text)] {
        for piece in text.split_inclusive(' ') {
            event(&chunk(delta(key, piece), Value::Null))?;
        }
    }
    event(&chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }]), Value::Null))?;
    event(&chunk(json!([]), usage))?;
    event("[DONE]")?;
    connection.write_all(b"0\r\n\r\n")?;
    Ok(true)
}

fn respond(mut connection: &TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    connection.write_all(format!("{head}{body}").as_bytes())
}
