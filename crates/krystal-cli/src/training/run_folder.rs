//! The folder that a run writes.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use krystal::grpo::RunDir;
use krystal::grpo::lm::Ranks;
use serde::Serialize;
use toml::{Table, Value};

use super::trainable::DYNAMIC;
use crate::cli::Global;
use crate::distributed::Distributed;
use crate::settings::{self, Settings};

/// Where a run is written.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Run directory")]
pub(crate) struct RunOptions {
    /// Folder to write, which must not hold a run yet [default: runs/VERB-N]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) run_dir: Option<PathBuf>,
    /// Go on with the run in this folder, with the options of its config.toml; flags given here win
    #[arg(long, value_name = "DIR", conflicts_with = "run_dir")]
    #[serde(skip)]
    pub(crate) resume: Option<PathBuf>,
    /// mpi: train together with the other processes of `mpirun -n N krystal ..`, to the same result as one process; each needs the
    /// model and the data, the first alone writes. none: on its own
    #[arg(long, value_name = "HOW", default_value = "none", hide_possible_values = true)]
    #[arg(help_heading = "Several machines")]
    #[serde(skip_serializing_if = "Distributed::is_none")]
    pub(crate) distributed: Distributed,
}

/// Where a run is written.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The folder, which the first rank alone has.
    pub(crate) run: Option<RunDir>,
    /// Whether it holds a run that is to go on.
    pub(crate) resumes: bool,
}

impl RunOptions {
    /// Opens the folder on the first of `ranks`.
    pub(crate) fn open(&self, verb: &str, ranks: &Ranks) -> anyhow::Result<Opened> {
        let mut run = None;
        ranks.ask_first(|| -> anyhow::Result<Vec<u8>> {
            run = Some(match (&self.resume, &self.run_dir) {
                (Some(path), _) => RunDir::resume(path)?,
                (None, Some(path)) => RunDir::create(path)?,
                (None, None) => RunDir::create(&next_free(Path::new("runs"), verb))?,
            });
            Ok(Vec::new())
        })?;
        Ok(Opened { run, resumes: self.resume.is_some() })
    }
}

/// `runs/train-4` after `runs/train-3`.
pub(crate) fn next_free(runs: &Path, verb: &str) -> PathBuf {
    let prefix = format!("{verb}-");
    let number = |name: &str| name.strip_prefix(&prefix)?.parse::<u64>().ok();
    let names =
        std::fs::read_dir(runs).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let highest = names.filter_map(|name| number(&name)).max().unwrap_or(0);
    runs.join(format!("{prefix}{}", highest + 1))
}

/// Everything that was decided, as flags that decide it again. Paths are made absolute, so that the run can be resumed from
/// anywhere.
pub(crate) fn resolved<S: Settings>(options: &impl Serialize, global: &Global, settings: &S) -> anyhow::Result<Table> {
    const PATHS: [&str; 8] =
        ["model", "adapter", "data", "eval_data", "init", "rubric_file", "prices", "provider_cache"];
    let mut table = Table::try_from(options).context("the options cannot be written as TOML")?;
    table.extend(Table::try_from(global).context("the options cannot be written as TOML")?);
    table.extend(settings::to_table(settings)?);
    for key in PATHS {
        if let Some(Value::String(path)) = table.get_mut(key).filter(|value| !is_word(key, value)) {
            let absolute = std::path::absolute(&*path).with_context(|| format!("{path}: no absolute path"))?;
            *path = absolute.to_str().unwrap_or(path).to_owned();
        }
    }
    Ok(table)
}

/// Whether a value that may be a path is a word instead.
fn is_word(key: &str, value: &Value) -> bool {
    key == "adapter" && value.as_str() == Some(DYNAMIC)
}

/// Writes `config.toml`.
pub(crate) fn write_config(run: &RunDir, verb: &str, table: &Table) -> anyhow::Result<()> {
    let path = run.path().join("config.toml");
    let text = format!("# krystal {verb} --config {}\n{}", path.display(), toml::to_string(table)?);
    Ok(krystal::checkpoint::write_atomically(&path, text.as_bytes())?)
}

/// An error of a run that can go on from a checkpoint, with how to do that.
pub(crate) fn resumable(error: anyhow::Error, run: Option<&RunDir>, verb: &str) -> anyhow::Error {
    let Some(run) = run else { return error };
    match run.checkpoints() {
        Ok(checkpoints) if !checkpoints.is_empty() => {
            anyhow::anyhow!(
                "{error:#}; to go on from the last checkpoint: krystal {verb} --resume {}",
                run.path().display()
            )
        }
        _ => error,
    }
}

/// Calls what was trained by its name: a run of all weights leaves `model`, a folder that can be used like any other.
pub(crate) fn keep_whole_model(run: &RunDir) -> anyhow::Result<PathBuf> {
    let (from, to) = (run.adapter_path(), run.path().join("model"));
    let moved = if to.exists() { std::fs::remove_dir_all(&to) } else { Ok(()) };
    moved.and_then(|()| std::fs::rename(&from, &to)).with_context(|| format!("{}: cannot replace", to.display()))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_by_verb() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path();
        assert_eq!(next_free(&runs.join("none"), "train"), runs.join("none/train-1"));
        for name in ["train-2", "train-10", "train-x", "sft-40"] {
            std::fs::create_dir(runs.join(name)).unwrap();
        }
        assert_eq!(next_free(runs, "train"), runs.join("train-11"));
        assert_eq!(next_free(runs, "sft"), runs.join("sft-41"));
    }
}
