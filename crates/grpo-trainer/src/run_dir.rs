//! The directory of a run: everything it writes, and nothing elsewhere.
//!
//! ```text
//! metrics.jsonl       one line per step
//! completions.jsonl   one line per completion
//! events.jsonl        what a policy with dynamics of its own reports: phases, migrations, health
//! checkpoints/        step-00000050.ckpt, ...
//! adapter/            what was trained
//! ```
//! The caller may add files of its own (`config.toml`).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::metrics::StepMetrics;
use crate::resume;

/// Files by which a directory is known to hold a run.
const MARKS: [&str; 6] =
    ["config.toml", "metrics.jsonl", "completions.jsonl", "events.jsonl", "checkpoints", "adapter"];

/// A run's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a directory for a new run.
    ///
    /// # Errors
    /// [`Error::RunDirectoryInUse`] where it holds a run already, [`Error::Io`] where it cannot be made or written to.
    pub fn create(path: &Path) -> Result<Self, Error> {
        if let Some(found) = MARKS.into_iter().find(|mark| path.join(mark).exists()) {
            return Err(Error::RunDirectoryInUse { path: path.to_path_buf(), found });
        }
        let run = Self { path: path.to_path_buf() };
        run.make_writable()?;
        Ok(run)
    }

    /// Opens the directory of a run to go on with it.
    ///
    /// # Errors
    /// [`Error::NotARun`] where it holds none, [`Error::Io`] where it cannot be written to.
    pub fn resume(path: &Path) -> Result<Self, Error> {
        if !MARKS.into_iter().any(|mark| path.join(mark).exists()) {
            return Err(Error::NotARun { path: path.to_path_buf() });
        }
        let run = Self { path: path.to_path_buf() };
        run.make_writable()?;
        Ok(run)
    }

    fn make_writable(&self) -> Result<(), Error> {
        let checkpoints = self.checkpoints_path();
        std::fs::create_dir_all(&checkpoints).map_err(io("create", &checkpoints))?;
        // A directory that exists may still refuse files: better known now than after the first step.
        let probe = self.path.join(".writable");
        File::create(&probe).and_then(|mut f| f.write_all(b"?")).map_err(io("write to", &self.path))?;
        std::fs::remove_file(&probe).map_err(io("write to", &self.path))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `completions.jsonl`.
    pub fn completions_path(&self) -> PathBuf {
        self.path.join("completions.jsonl")
    }

    /// `events.jsonl`.
    pub fn events_path(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// `adapter/`.
    pub fn adapter_path(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// `checkpoints/`.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The file of the checkpoint of `step`.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.checkpoints_path().join(format!("step-{step:08}.ckpt"))
    }

    /// Every checkpoint, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        let folder = self.checkpoints_path();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(io("read", &folder))? {
            let entry = entry.map_err(io("read", &folder))?;
            let name = entry.file_name();
            let step = name.to_str().and_then(|n| n.strip_prefix("step-")?.strip_suffix(".ckpt")?.parse().ok());
            if let Some(step) = step {
                found.push((step, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes all but the newest `keep` checkpoints.
    pub(crate) fn prune_checkpoints(&self, keep: usize) -> Result<(), Error> {
        let all = self.checkpoints()?;
        for (_, path) in &all[..all.len().saturating_sub(keep)] {
            std::fs::remove_file(path).map_err(io("remove", path))?;
        }
        Ok(())
    }

    /// Drops the lines of `metrics.jsonl`, `completions.jsonl` and `events.jsonl` that come after `step` (all lines for `None`), and a last
    /// line that was cut short.
    pub(crate) fn truncate_logs(&self, step: Option<u64>) -> Result<(), Error> {
        for path in [self.metrics_path(), self.completions_path(), self.events_path()] {
            if path.exists() {
                truncate(&path, step).map_err(io("rewrite", &path))?;
            }
        }
        Ok(())
    }
}

/// Makes an [`Error::Io`].
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { action, path, source }
}

fn truncate(path: &Path, step: Option<u64>) -> std::io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut kept = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.read_until(b'\n', &mut line)?;
        let line_step = serde_json::from_slice::<Value>(&line).ok().and_then(|v| v.get("step")?.as_u64());
        // Lines are in order of steps, so the first that goes takes the rest with it.
        match (line_step, step) {
            (Some(line_step), Some(step)) if line_step <= step && line.ends_with(b"\n") => kept += n as u64,
            _ => break,
        }
    }
    drop(reader);
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(kept)?;
    file.sync_data()
}

/// A run's directory and its growing logs.
#[derive(Debug)]
pub(crate) struct RunLog {
    pub(crate) dir: RunDir,
    metrics: Log,
    completions: Log,
    /// Opened with the first event.
    events: Option<Log>,
}

impl RunLog {
    pub(crate) fn open(dir: RunDir) -> Result<Self, Error> {
        let metrics = Log::open(dir.metrics_path())?;
        let completions = Log::open(dir.completions_path())?;
        Ok(Self { dir, metrics, completions, events: None })
    }

    /// Appends the lines of a step: metrics last, so that a step with metrics has its completions and events.
    pub(crate) fn append(
        &mut self,
        metrics: &StepMetrics,
        completions: Vec<String>,
        events: Vec<String>,
    ) -> Result<(), Error> {
        self.completions.append(completions)?;
        if !events.is_empty() {
            if self.events.is_none() {
                self.events = Some(Log::open(self.dir.events_path())?);
            }
            if let Some(log) = &mut self.events {
                log.append(events)?;
            }
        }
        self.metrics.append([metrics.to_json()])
    }

    /// Writes a checkpoint once the logs it continues are on the disk.
    pub(crate) fn checkpoint<T: Serialize>(
        &mut self,
        kind: &str,
        step: u64,
        state: &T,
        keep: usize,
    ) -> Result<PathBuf, Error> {
        self.completions.sync()?;
        self.metrics.sync()?;
        if let Some(events) = &mut self.events {
            events.sync()?;
        }
        resume::save(&self.dir, kind, step, state, keep)
    }
}

/// A JSONL file that grows.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Log {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io("open", &path))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    /// Appends whole lines and hands them to the operating system, so that a killed process loses none.
    fn append(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), Error> {
        let write = || {
            for line in lines {
                self.file.write_all(line.as_bytes())?;
                self.file.write_all(b"\n")?;
            }
            self.file.flush()
        };
        write().map_err(io("write to", &self.path))
    }

    /// Waits until the lines are on the disk: a checkpoint must not be newer than the log it continues.
    fn sync(&mut self) -> Result<(), Error> {
        self.file.get_ref().sync_data().map_err(io("write to", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_never_overwrites_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(matches!(RunDir::resume(&path), Err(Error::NotARun { .. })));
        RunDir::create(&path).unwrap();
        assert!(matches!(RunDir::create(&path), Err(Error::RunDirectoryInUse { found: "checkpoints", .. })));
        RunDir::resume(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = RunDir::create(&file.join("run")).unwrap_err().to_string();
        assert!(error.starts_with("could not create"), "{error}");
    }

    #[test]
    fn checkpoints_are_listed_in_order_and_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path()).unwrap();
        for step in [100, 20, 3] {
            std::fs::write(run.checkpoint_path(step), "x").unwrap();
        }
        std::fs::write(run.checkpoints_path().join("step-00000200.tmp"), "half").unwrap();
        let steps = |run: &RunDir| run.checkpoints().unwrap().into_iter().map(|(s, _)| s).collect::<Vec<_>>();
        assert_eq!(steps(&run), [3, 20, 100]);
        run.prune_checkpoints(2).unwrap();
        assert_eq!(steps(&run), [20, 100]);
    }

    #[test]
    fn logs_are_cut_after_the_step_and_at_a_broken_line() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path()).unwrap();
        let text = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"ste";
        let after = |step| {
            std::fs::write(run.metrics_path(), text).unwrap();
            run.truncate_logs(step).unwrap();
            std::fs::read_to_string(run.metrics_path()).unwrap()
        };
        assert_eq!(after(Some(2)), "{\"step\":1}\n{\"step\":2}\n");
        assert_eq!(after(Some(9)), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
        assert_eq!(after(None), "");
    }
}
