//! Peers that are Python scripts.

use std::path::Path;
use std::process::Command;

/// The command that runs a script of `peers/` in the virtual environment `venv`.
pub fn peer_command(venv: &Path, script: &str) -> Command {
    let mut command = Command::new(venv.join("bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script));
    command
}
