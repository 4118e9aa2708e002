//! Files that tests read and that are not part of the repository.

use std::path::PathBuf;

/// The five model folders of `fixtures/hf`.
pub(crate) const MODELS: [&str; 5] = ["llama-gqa", "llama3-rope", "mistral-window", "qwen2-tied", "qwen3-qknorm"];

/// A file or folder of the shared material: in `KRYSTAL_SHARED`, or else in `shared` beside the workspace. Where it is
/// not there, says so and gives `None`.
pub(crate) fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("KRYSTAL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let path = root.join(relative);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {relative} is not here");
    None
}
