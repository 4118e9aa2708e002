//! Servers and clients that nobody here wrote. `cargo xtask llm-servers` installs them; what is not there is skipped with a line.

mod aimock;
mod capture;
mod llama_cpp;
mod llmposter;
mod official_clients;
mod own_recordings;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_providers::anthropic::Anthropic;
use llm_providers::conformance::Report;
use llm_providers::gemini::Gemini;
use llm_providers::ollama::Ollama;
use llm_providers::openai::{Api, OpenAi};
use llm_providers::transport::{HyperTransport, Transport};
use llm_providers::{Endpoint, HttpProvider, LlmProvider};

/// A program that serves until it is dropped.
struct Server {
    process: Child,
    base: String,
    /// Its script.
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file of the folder that `cargo xtask llm-servers` fills; `None`, with a line that says so, where it is not there.
fn installed(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("KRYSTAL_LLM_SERVERS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/llm-servers")), PathBuf::from);
    let path = folder.join(file);
    if path.exists() {
        // Links stay: a virtual environment is where its interpreter is called from.
        return Some(std::path::absolute(path).unwrap());
    }
    println!("skipped: {file} is not installed (cargo xtask llm-servers)");
    None
}

/// Starts a program that listens on the port it is given, with a file of this content.
fn start(script: (&str, &str), command: impl Fn(&std::path::Path, u16) -> Command) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(script.0);
    std::fs::write(&file, script.1).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = command(&file, port);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        let exited = process.try_wait().unwrap();
        if exited.is_some() || Instant::now() > deadline {
            let said = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("{command:?} does not listen ({exited:?}): {said}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Server { process, base: format!("http://127.0.0.1:{port}"), _folder: folder }
}

/// The vendors' protocols over real sockets.
fn provider(vendor: &str, base: &str) -> Box<dyn LlmProvider> {
    provider_over(vendor, base, Arc::new(HyperTransport::new(Default::default()).unwrap()))
}

fn provider_over(vendor: &str, base: &str, transport: Arc<dyn Transport>) -> Box<dyn LlmProvider> {
    let endpoint = |path: &str| Endpoint::new(&format!("{base}{path}")).unwrap().with_key(Some("no-key".into()));
    match vendor {
        "openai" => Box::new(HttpProvider::new(OpenAi::new(endpoint("/v1")), transport)),
        "openai-responses" => {
            Box::new(HttpProvider::new(OpenAi::new(endpoint("/v1")).with_api(Api::Responses), transport))
        }
        "anthropic" => Box::new(HttpProvider::new(Anthropic::new(endpoint("")), transport)),
        "gemini" => Box::new(HttpProvider::new(Gemini::new(endpoint("")), transport)),
        "ollama" => Box::new(HttpProvider::new(Ollama::new(endpoint("")), transport)),
        other => panic!("no vendor {other}"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn expect_clean(name: &str, report: &Report) {
    println!("{name}:\n{report}");
    assert!(report.failures().is_empty(), "{name}:\n{report}");
}
