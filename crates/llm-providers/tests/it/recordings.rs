//! Recorded traffic of real vendors, where it is here: YAML documents of a request and its answer.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// A request and its answer.
pub(crate) struct Recording {
    /// The file, below the vendor's folder, and which of its documents.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// The request's body; null where there is none or it is not JSON.
    pub(crate) asked: Value,
    pub(crate) answered: String,
}

#[derive(Deserialize)]
struct Document {
    when: When,
    then: Then,
}

#[derive(Deserialize)]
struct When {
    path: String,
    body: Option<String>,
}

#[derive(Deserialize)]
struct Then {
    status: u16,
    #[serde(default)]
    header: Vec<Header>,
    body: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

/// The recordings of a vendor in the order of their names; none, with a line that says so, where they are not here.
pub(crate) fn of(vendor: &str) -> Vec<Recording> {
    let shared = std::env::var_os("KRYSTAL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let folder = shared.join("data/llm-recordings").join(vendor);
    if !folder.is_dir() {
        println!("skipped: the recordings of {vendor} are not here");
        return Vec::new();
    }
    let mut files = Vec::new();
    list(&folder, &mut files);
    files.sort();
    let mut recordings = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let documents: Vec<Option<Document>> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (number, document) in documents.into_iter().flatten().enumerate() {
            let content_type = document.then.header.into_iter().find(|header| header.name == "content-type");
            recordings.push(Recording {
                name: format!("{}#{number}", file.strip_prefix(&folder).unwrap().display()),
                path: document.when.path,
                status: document.then.status,
                content_type: content_type.map(|header| header.value).unwrap_or_default(),
                asked: document.when.body.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default(),
                answered: document.then.body.unwrap_or_default(),
            });
        }
    }
    recordings
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

#[test]
fn the_recordings_are_read() {
    let all = ["anthropic", "gemini", "llamacpp", "ollama", "openai", "openrouter"];
    let counts = all.map(|vendor| of(vendor).len());
    if counts.iter().sum::<usize>() > 0 {
        assert_eq!(counts, [257, 249, 88, 21, 242, 149], "interactions of {all:?}");
    }
}
