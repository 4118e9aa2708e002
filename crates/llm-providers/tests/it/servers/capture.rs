//! A server that keeps what it is asked and refuses everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What was asked: path and body.
pub(super) type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Serves in the background until the process ends; gives the address and what will have been asked.
pub(super) fn serve() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || answer(connection, &kept));
        }
    });
    (base, asked)
}

fn answer(mut connection: TcpStream, kept: &Asked) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    kept.lock().unwrap().push((path, serde_json::from_slice(&body).ok()?));
    let refusal = "{\"error\":{\"message\":\"kept\",\"type\":\"invalid_request_error\",\"code\":400}}";
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close";
    write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{refusal}", refusal.len()).ok()
}
