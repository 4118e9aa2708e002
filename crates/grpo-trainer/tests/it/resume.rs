//! A resumed run equals an uninterrupted one, bit for bit.

use std::path::Path;

use grpo_trainer::config::GrpoConfig;
use grpo_trainer::{
    Demonstration, Error, EvaluateConfig, GrpoTrainer, Observer, RunDir, SftConfig, SftTrainer, Temperature,
    strip_timing,
};

use crate::bigram::Bigram;
use crate::task::{Exact, config, records, rewards};

const TOTAL: u64 = 6;

/// Collects what it is told.
#[derive(Debug, Default)]
struct Watcher {
    warnings: Vec<String>,
    stop_after: Option<u64>,
    step: u64,
}

impl Observer for Watcher {
    fn on_step(&mut self, metrics: &grpo_trainer::StepMetrics) {
        self.step = metrics.step;
    }

    fn on_warning(&mut self, message: &str) {
        self.warnings.push(message.to_string());
    }

    fn should_stop(&self) -> bool {
        self.stop_after.is_some_and(|step| self.step >= step)
    }
}

/// Generations that outlive their step, an adaptive coefficient, a temperature that follows the run, momentum: state of every kind.
fn stateful() -> GrpoConfig {
    GrpoConfig {
        max_steps: Some(TOTAL),
        gradient_accumulation_steps: 2,
        steps_per_generation: Some(6),
        num_iterations: 2,
        beta: 0.02,
        use_adaptive_entropy: true,
        entropy_target: 1.5,
        temperature: Temperature::Phase,
        phase_patience: 2,
        warmup_steps: 2,
        eval_steps: 2,
        eval_on_start: true,
        ..config()
    }
}

fn new_trainer(config: GrpoConfig) -> GrpoTrainer<Bigram> {
    let evaluation = EvaluateConfig { max_completion_length: 4, ..EvaluateConfig::default() };
    let ticks = std::cell::Cell::new(0.0);
    let clock = Box::new(move || {
        // Never the same twice: what it shows must not reach anything but the timing.
        ticks.set(ticks.get() * 1.7 + 0.3);
        ticks.get()
    });
    GrpoTrainer::new(config, Bigram::new(), rewards(), records())
        .unwrap()
        .with_evaluation(records(), Box::new(Exact), evaluation)
        .unwrap()
        .with_clock(clock)
}

fn start(config: GrpoConfig, path: &Path) -> GrpoTrainer<Bigram> {
    new_trainer(config).with_run_dir(RunDir::create(path).unwrap()).unwrap()
}

fn go_on(config: GrpoConfig, path: &Path) -> Result<GrpoTrainer<Bigram>, Error> {
    new_trainer(config).resume_from(RunDir::resume(path).unwrap(), &mut ())
}

/// Everything a run leaves behind that must not depend on how it was interrupted.
fn left_behind(path: &Path) -> (String, String, Vec<u8>) {
    let metrics = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let metrics = metrics.lines().map(strip_timing).collect::<Vec<_>>().join("\n");
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
    (metrics, read("completions.jsonl") + &read("events.jsonl"), std::fs::read(path.join("adapter/table.bin")).unwrap())
}

fn uninterrupted(config: GrpoConfig) -> (String, String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    start(config, folder.path()).train(&mut ()).unwrap();
    left_behind(folder.path())
}

#[test]
fn two_runs_of_one_seed_are_the_same() {
    let run = uninterrupted(stateful());
    assert_eq!(run, uninterrupted(stateful()));
    assert_ne!(run, uninterrupted(GrpoConfig { seed: 1, ..stateful() }));
    assert_eq!(run.0.lines().count() as u64, TOTAL + 1, "one line per step, and the evaluation before the first");
    assert!(run.0.contains("eval_pass@1") && !run.0.contains("NaN"));
    let temperatures = run.0.lines().filter(|line| line.contains(r#""temperature":"#));
    assert!(temperatures.filter(|line| !line.contains(r#""temperature":1.0,"#)).count() > 2, "{}", run.0);
}

#[test]
fn a_run_killed_at_any_step_ends_the_same() {
    for checkpoint_every in [1, 2, 4] {
        let config = GrpoConfig { checkpoint_every, ..stateful() };
        let expected = uninterrupted(config.clone());
        for killed_after in 1..TOTAL {
            let folder = tempfile::tempdir().unwrap();
            let mut trainer = start(config.clone(), folder.path());
            // As `train` does before its first step.
            let mut stopper = Watcher { stop_after: Some(1), ..Watcher::default() };
            if checkpoint_every == 1 {
                trainer.train(&mut stopper).unwrap();
            }
            while trainer.n_steps() < killed_after {
                trainer.step(&mut ()).unwrap();
            }
            drop(trainer);
            // Killed while writing the next line.
            let metrics = folder.path().join("metrics.jsonl");
            let mut text = std::fs::read_to_string(&metrics).unwrap();
            text.push_str("{\"step\":");
            std::fs::write(&metrics, text).unwrap();

            go_on(config.clone(), folder.path()).unwrap().train(&mut ()).unwrap();
            let (mut got, mut expected) = (left_behind(folder.path()), expected.clone());
            if checkpoint_every > 1 {
                // Stepping by hand leaves out the evaluation before the first step, unless the run started over.
                let after_start = |text: &str| -> String {
                    text.lines().filter(|l| !l.starts_with("{\"step\":0,")).collect::<Vec<_>>().join("\n")
                };
                got.0 = after_start(&got.0);
                expected.0 = after_start(&expected.0);
            }
            assert_eq!(got, expected, "every {checkpoint_every}, killed after {killed_after}");
        }
    }
}

#[test]
fn a_finished_run_resumes_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    start(stateful(), folder.path()).train(&mut ()).unwrap();
    let before = left_behind(folder.path());
    let summary = go_on(stateful(), folder.path()).unwrap().train(&mut ()).unwrap();
    assert_eq!((summary.step, summary.last), (TOTAL, None));
    assert_eq!(left_behind(folder.path()), before);
}

#[test]
fn a_stopped_run_leaves_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = GrpoConfig { checkpoint_every: 100, ..stateful() };
    let mut stopper = Watcher { stop_after: Some(3), ..Watcher::default() };
    let summary = start(config.clone(), folder.path()).train(&mut stopper).unwrap();
    assert_eq!(summary.step, 3);
    go_on(config.clone(), folder.path()).unwrap().train(&mut ()).unwrap();
    assert_eq!(left_behind(folder.path()), uninterrupted(config));
}

#[test]
fn another_run_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    start(stateful(), folder.path()).step(&mut ()).unwrap();
    let error = go_on(GrpoConfig { learning_rate: 0.2, ..stateful() }, folder.path()).unwrap_err().to_string();
    assert_eq!(error, "cannot resume: `learning_rate` was 0.1 in the checkpoint and is 0.2 now");
    let mut other = records();
    other[3].columns.insert("answer".into(), "z".into());
    let trainer = GrpoTrainer::new(stateful(), Bigram::new(), rewards(), other).unwrap();
    let error = trainer.resume_from(RunDir::resume(folder.path()).unwrap(), &mut ()).unwrap_err().to_string();
    assert!(error.contains("content of the data"), "{error}");
    // What only says when to write or to stop may change.
    go_on(GrpoConfig { checkpoint_every: 3, zero_spread_patience: 7, ..stateful() }, folder.path()).unwrap();
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    start(stateful(), folder.path()).train(&mut ()).unwrap();
    let checkpoints = RunDir::resume(folder.path()).unwrap().checkpoints().unwrap();
    assert_eq!(checkpoints.iter().map(|c| c.0).collect::<Vec<_>>(), [4, 5, 6]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_previous_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = start(stateful(), folder.path());
    trainer.step(&mut ()).unwrap();
    // A folder in the place of the next checkpoint fails the last step of writing it, as a full disk would.
    let blocked = folder.path().join("checkpoints/step-00000002.ckpt");
    std::fs::create_dir_all(blocked.join("in the way")).unwrap();
    let error = trainer.step(&mut ()).unwrap_err();
    assert!(error.to_string().ends_with("the one of step 1 is intact and can be resumed"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    drop(trainer);
    std::fs::remove_dir_all(&blocked).unwrap();
    go_on(stateful(), folder.path()).unwrap().train(&mut ()).unwrap();
    let (metrics, completions, adapter) = uninterrupted(stateful());
    let got = left_behind(folder.path());
    assert_eq!((got.1, got.2), (completions, adapter));
    assert!(metrics.ends_with(&got.0));
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = start(stateful(), folder.path());
    for _ in 0..3 {
        trainer.step(&mut ()).unwrap();
    }
    let newest = folder.path().join("checkpoints/step-00000003.ckpt");
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, &bytes).unwrap();
    let mut watcher = Watcher::default();
    let resumed = new_trainer(stateful()).resume_from(RunDir::resume(folder.path()).unwrap(), &mut watcher).unwrap();
    assert_eq!(resumed.n_steps(), 2);
    assert!(watcher.warnings[0].contains("step-00000003.ckpt"), "{:?}", watcher.warnings);
    for entry in std::fs::read_dir(folder.path().join("checkpoints")).unwrap() {
        std::fs::write(entry.unwrap().path(), "not a checkpoint").unwrap();
    }
    assert!(matches!(go_on(stateful(), folder.path()), Err(Error::CheckpointRead { n_checkpoints: 3, .. })));
}

#[test]
fn supervised_runs_resume_too() {
    let demonstrations: Vec<Demonstration> =
        (0..10).map(|i| Demonstration { prompt: vec![i % 6], completion: vec![(i + 1) % 6, 6] }).collect();
    let config = SftConfig {
        batch_size: 3,
        max_steps: Some(TOTAL),
        learning_rate: 0.05,
        checkpoint_every: 2,
        ..SftConfig::default()
    };
    let new = || SftTrainer::new(config.clone(), Bigram::new(), demonstrations.clone()).unwrap();
    let whole = tempfile::tempdir().unwrap();
    new().with_run_dir(RunDir::create(whole.path()).unwrap()).unwrap().train(&mut ()).unwrap();
    let expected = left_behind(whole.path());
    for killed_after in 1..TOTAL {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = new().with_run_dir(RunDir::create(folder.path()).unwrap()).unwrap();
        for _ in 0..killed_after {
            trainer.step(&mut ()).unwrap();
        }
        drop(trainer);
        let resumed = new().resume_from(RunDir::resume(folder.path()).unwrap(), &mut ());
        resumed.unwrap().train(&mut ()).unwrap();
        assert_eq!(left_behind(folder.path()), expected, "killed after {killed_after}");
    }
}
