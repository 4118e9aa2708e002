//! Recordings of our own: llama.cpp's server for the protocols it speaks, aimock for the others. They are played with other cuts, and
//! broken off. `KRYSTAL_RECORD=1 cargo test -p llm-providers own_recordings` makes them anew where the servers are installed.

use std::path::PathBuf;
use std::sync::Arc;

use llm_providers::conformance::Act;
use llm_providers::transport::{Cuts, Ending, HyperTransport, RecordTransport, ReplayTransport, Transport};
use llm_providers::{Error, LlmProvider, Message, Request, Response};

use super::{aimock, block_on, llama_cpp, provider_over};

const VENDORS: [&str; 5] = ["openai", "openai-responses", "anthropic", "gemini", "ollama"];

fn recording(vendor: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings")).join(format!("{vendor}.jsonl"))
}

/// What is asked: of aimock what it answers, of llama.cpp what noise can answer.
fn requests(vendor: &str) -> Vec<Request> {
    if ["gemini", "ollama"].contains(&vendor) {
        return [Act::Text, Act::Unicode, Act::ToolCall, Act::ParallelToolCalls]
            .map(|act| act.request("model-1"))
            .into();
    }
    let said = [Message::system("Be brief."), Message::user("Say anything.")];
    let request = Request::new("tiny-llama", said).with_max_tokens(24).with_temperature(0.0);
    let log_probs = (vendor == "openai").then(|| request.clone().with_log_probs(2));
    [request].into_iter().chain(log_probs).collect()
}

fn whole(provider: &dyn LlmProvider, request: &Request) -> Response {
    block_on(provider.complete(request)).unwrap()
}

fn streamed(provider: &dyn LlmProvider, request: &Request) -> Result<Response, Error> {
    block_on(async { provider.stream(request).await?.response().await })
}

fn record() {
    let (Some(llama), Some(mock)) = (llama_cpp::serve(), aimock::serve()) else { panic!("cargo xtask llm-servers") };
    for vendor in VENDORS {
        let base = if ["gemini", "ollama"].contains(&vendor) { &mock.base } else { &llama.base };
        let path = recording(vendor);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        let network = Arc::new(HyperTransport::new(Default::default()).unwrap());
        let recorder: Arc<dyn Transport> = Arc::new(RecordTransport::new(network, &path).unwrap());
        let provider = provider_over(vendor, base, recorder);
        for request in requests(vendor) {
            whole(&*provider, &request);
            streamed(&*provider, &request).unwrap();
        }
    }
}

#[test]
fn own_recordings_are_read_whatever_their_cuts_and_end() {
    if std::env::var_os("KRYSTAL_RECORD").is_some() {
        record();
    }
    for vendor in VENDORS {
        let played = |cuts, ending| -> Box<dyn LlmProvider> {
            let replay = ReplayTransport::open(recording(vendor)).unwrap().with_cuts(cuts).with_ending(ending);
            provider_over(vendor, "http://127.0.0.1:1", Arc::new(replay))
        };
        for request in requests(vendor) {
            let recorded = played(Cuts::Recorded, Ending::Recorded);
            let (at_once, expected) = (whole(&*recorded, &request), streamed(&*recorded, &request).unwrap());
            assert_eq!(at_once.stop.reason, expected.stop.reason, "{vendor}");
            assert_eq!(at_once.message.content.len(), expected.message.content.len(), "{vendor}");
            for cuts in [Cuts::Whole, Cuts::EveryByte, Cuts::Random(1), Cuts::Random(2)] {
                let cut = streamed(&*played(cuts, Ending::Recorded), &request).unwrap();
                assert!(cut == expected, "{vendor}, {cuts:?}");
                assert!(whole(&*played(cuts, Ending::Recorded), &request) == at_once, "{vendor}, {cuts:?}");
            }
            for bytes in [0, 1, 20, 100] {
                let cut = streamed(&*played(Cuts::Recorded, Ending::Cut(bytes)), &request);
                assert!(matches!(cut, Err(Error::Incomplete { .. })), "{vendor}, after {bytes} bytes: {cut:?}");
                let broken = streamed(&*played(Cuts::Recorded, Ending::Broken(bytes)), &request);
                assert!(matches!(broken, Err(Error::Transport { .. })), "{vendor}, after {bytes} bytes: {broken:?}");
            }
        }
    }
}
