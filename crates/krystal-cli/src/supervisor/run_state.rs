//! How far a run has come, as its folder shows it.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// What moves while a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunState {
    /// Step of the last checkpoint.
    pub(crate) checkpoint: Option<u64>,
    metrics: Option<(u64, SystemTime)>,
}

impl RunState {
    /// Reads the folder; what is not there, or not yet, has not moved.
    pub(crate) fn of(run: &Path) -> Self {
        let metrics = fs::metadata(run.join("metrics.jsonl"));
        let metrics = metrics.and_then(|metadata| Ok((metadata.len(), metadata.modified()?))).ok();
        let names = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
        let step = |name: &str| name.strip_prefix("step-")?.strip_suffix(".ckpt")?.parse().ok();
        let checkpoint = names.filter_map(|entry| step(entry.ok()?.file_name().to_str()?)).max();
        Self { checkpoint, metrics }
    }
}

/// Whether there is a run in the folder that can be gone on with.
pub(crate) fn can_resume(run: &Path) -> bool {
    run.join("config.toml").exists()
}

/// Whether the folder holds a run, however little of it.
pub(crate) fn is_taken(run: &Path) -> bool {
    can_resume(run) || run.join("checkpoints").exists() || run.join("metrics.jsonl").exists()
}

/// Removes what a run leaves that died before it had written its options: empty logs and an empty folder, which would keep it from
/// being begun again.
pub(crate) fn clear_unbegun(run: &Path) {
    if can_resume(run) {
        return;
    }
    // What cannot be removed, the next launch will name.
    let _ = fs::remove_dir(run.join("checkpoints"));
    for log in ["metrics.jsonl", "completions.jsonl"].map(|name| run.join(name)) {
        if fs::metadata(&log).is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_and_metrics_move_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let nothing = RunState::of(&run.join("none"));
        assert_eq!(nothing.checkpoint, None);
        fs::create_dir(run.join("checkpoints")).unwrap();
        assert_eq!(RunState::of(run), nothing);
        fs::write(run.join("metrics.jsonl"), "{}\n").unwrap();
        let begun = RunState::of(run);
        assert_ne!(begun, nothing);
        for name in ["step-00000009.ckpt", "step-00000010.ckpt", "step-00000011.ckpt.part", "notes"] {
            fs::write(run.join("checkpoints").join(name), "").unwrap();
        }
        assert_eq!(RunState::of(run).checkpoint, Some(10));
        assert_ne!(RunState::of(run), begun);
    }

    #[test]
    fn only_what_was_not_begun_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let leave = || {
            fs::create_dir_all(run.join("checkpoints")).unwrap();
            fs::write(run.join("metrics.jsonl"), "").unwrap();
        };
        leave();
        assert!(is_taken(run) && !can_resume(run));
        clear_unbegun(run);
        assert!(!is_taken(run));
        leave();
        fs::write(run.join("config.toml"), "").unwrap();
        clear_unbegun(run);
        assert!(run.join("checkpoints").exists() && run.join("metrics.jsonl").exists() && can_resume(run));
        fs::remove_file(run.join("config.toml")).unwrap();
        fs::write(run.join("metrics.jsonl"), "{}\n").unwrap();
        fs::write(run.join("checkpoints/step-00000001.ckpt"), "").unwrap();
        clear_unbegun(run);
        assert!(run.join("checkpoints").exists() && run.join("metrics.jsonl").exists());
    }
}
