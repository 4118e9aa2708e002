//! `cargo xtask llm-servers`: servers and clients of others that the tests of `llm-providers` speak with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::command::{self, cargo, root};

const AIMOCK: &str = "@copilotkit/aimock@1.43.0";
const LLMPOSTER: &str = "llmposter@0.5.0";
const PYTHON_PACKAGES: [&str; 7] = [
    "xllamacpp==2026.10.11549",
    "gguf==0.19.0",
    "numpy",
    "openai==3.54.0",
    "anthropic==2.12.0",
    "google-genai==3.4.0",
    "ollama==0.6.3",
];

/// Where they are installed: the folder that the tests look into as well.
pub fn folder() -> PathBuf {
    std::env::var_os("KRYSTAL_LLM_SERVERS").map_or_else(|| root().join("target/llm-servers"), PathBuf::from)
}

/// Installs aimock (npm), llmposter (Cargo), and llama.cpp's server with the vendors' official clients (pip) into one folder. What is
/// there already is left alone; what cannot be installed is returned, and its tests are skipped.
///
/// # Errors
/// If the folder cannot be made.
pub fn install() -> anyhow::Result<Vec<String>> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let mut missing = Vec::new();
    for (what, install) in [
        ("aimock (needs npm)", aimock as fn(&Path) -> anyhow::Result<()>),
        ("llmposter (needs cargo)", llmposter),
        ("llama.cpp's server and the official clients (needs python3 with venv)", python),
    ] {
        match install(&folder) {
            Ok(()) => println!("here: {what}"),
            Err(error) => missing.push(format!("{what}: {error:#}")),
        }
    }
    Ok(missing)
}

/// Runs `cargo xtask llm-servers`.
///
/// # Errors
/// As [`install`].
pub fn run() -> anyhow::Result<()> {
    for missing in install()? {
        println!("skipped: {missing}");
    }
    Ok(())
}

fn aimock(folder: &Path) -> anyhow::Result<()> {
    if folder.join("node_modules/@copilotkit/aimock/package.json").is_file() {
        return Ok(());
    }
    let flags = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", AIMOCK, "--prefix"];
    command::run(Command::new("npm").args(flags).arg(folder))
}

fn llmposter(folder: &Path) -> anyhow::Result<()> {
    if folder.join("bin/llmposter").is_file() {
        return Ok(());
    }
    // Run as a program, never linked: its licence is the AGPL.
    command::run(cargo(["install", "--quiet", LLMPOSTER, "--no-default-features", "--root"]).arg(folder))
}

fn python(folder: &Path) -> anyhow::Result<()> {
    let environment = folder.join("python");
    let interpreter = environment.join("bin/python");
    let done = environment.join("installed");
    if done.is_file() {
        return Ok(());
    }
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let flags = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    command::run(Command::new(&interpreter).args(flags).args(PYTHON_PACKAGES))?;
    command::run(
        Command::new(&interpreter).arg(root().join("tools/llm/tiny_llama.py")).arg(folder.join("tiny-llama.gguf")),
    )?;
    fs::write(&done, "").with_context(|| format!("{}: cannot be written", done.display()))
}
