//! Running programs from the workspace root.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The workspace root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The Cargo that runs us, in the workspace root, with `arguments`.
pub fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root()).args(arguments);
    // Left by the Cargo that started us; they would tell the next one and the tests that they are xtask.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command
}

/// Whether Cargo has the subcommand `name`.
pub fn has_cargo(name: &str) -> bool {
    cargo([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The command as one would type it.
fn typed(command: &Command) -> String {
    let mut words = vec![Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

/// Prints the command and runs it.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let typed = typed(command);
    eprintln!("$ {typed}");
    let status = command.status().with_context(|| format!("`{typed}` could not be started"))?;
    if !status.success() {
        bail!("`{typed}` failed: {status}");
    }
    Ok(())
}

/// Runs the command and returns what it writes to stdout.
///
/// # Errors
/// As [`run`].
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let typed = typed(command);
    let output = command.output().with_context(|| format!("`{typed}` could not be started"))?;
    if !output.status.success() {
        bail!("`{typed}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{typed}` wrote something that is not UTF-8"))
}

/// As [`run`], passing everything through and returning the lines that `keep` chooses from stdout and stderr.
///
/// # Errors
/// As [`run`].
pub fn run_keeping(command: &mut Command, keep: fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let typed = typed(command);
    eprintln!("$ {typed}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{typed}` could not be started"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let kept = std::thread::scope(|scope| -> anyhow::Result<Vec<String>> {
        let errors = scope.spawn(|| stderr.map_or_else(|| Ok(Vec::new()), |pipe| tee(pipe, std::io::stderr(), keep)));
        let mut kept = stdout.map_or_else(|| Ok(Vec::new()), |pipe| tee(pipe, std::io::stdout(), keep))?;
        match errors.join() {
            Ok(errors) => kept.extend(errors?),
            Err(_) => bail!("the reader of `{typed}` panicked"),
        }
        Ok(kept)
    })?;
    let status = child.wait().with_context(|| format!("`{typed}` could not be waited for"))?;
    if !status.success() {
        bail!("`{typed}` failed: {status}");
    }
    Ok(kept)
}

fn tee(pipe: impl Read, mut to: impl Write, keep: fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        let text = String::from_utf8_lossy(&line);
        if keep(text.trim()) {
            kept.push(text.trim_end().to_owned());
        }
        line.clear();
    }
    Ok(kept)
}
