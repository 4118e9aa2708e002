use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::krystal::{Ran, krystal};
use crate::tiny_model::TinyModel;

/// Stands for a training command: notes its arguments, and leaves what a run leaves that has begun. `$R` is its run directory.
const BEGIN: &str = r#"
here=$(dirname "$0")
echo "$@" >> "$here/launches"
R="$here/run"
mkdir -p "$R/checkpoints"
echo "seed = 0" > "$R/config.toml"
"#;

/// Supervises `sh FILE train --run-dir RUN --threads 1` with this script.
fn supervise(tiny: &TinyModel, script: &str, flags: &[&str]) -> Ran {
    let script = tiny.write("fake.sh", &format!("{BEGIN}{script}"));
    let command = ["--", "sh", &script, "train", "--run-dir", &tiny.path("run"), "--threads", "1"];
    krystal(&[&["supervise"], flags, &command].concat())
}

/// The arguments of each launch.
fn launches(tiny: &TinyModel) -> Vec<String> {
    let text = fs::read_to_string(tiny.folder.path().join("launches")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_run_that_dies_is_launched_again_from_its_checkpoint() {
    let tiny = TinyModel::new();
    let script = r#"
        case "$*" in
            *--resume*) echo done ;;
            *) touch "$R/checkpoints/step-00000002.ckpt"; kill -9 $$ ;;
        esac"#;
    let ran = supervise(&tiny, script, &["--json"]);
    let answer = ran.json();
    let run = tiny.path("run");
    assert_eq!(
        launches(&tiny),
        [format!("train --run-dir {run} --threads 1"), format!("train --resume {run} --threads 1")]
    );
    assert_eq!((answer["run_dir"].as_str(), answer["launches"].as_array().unwrap().len()), (Some(run.as_str()), 2));
    assert_eq!((&answer["launches"][0]["exit_code"], &answer["launches"][0]["checkpoint"]), (&137.into(), &2.into()));
    assert_eq!(answer["launches"][1]["exit_code"], 0);
    assert!(ran.stderr.contains("signal 9; launching it again from the checkpoint of step 2 (1 of 3)"), "{ran:?}");
    assert_eq!((ran.stdout.lines().count(), ran.stderr.contains("done")), (1, true));
}

#[test]
fn a_run_without_a_folder_is_begun_again() {
    let tiny = TinyModel::new();
    let script = r#"
        if [ $(wc -l < "$here/launches") = 1 ]; then
            rm "$R/config.toml"; : > "$R/metrics.jsonl"; kill -9 $$
        fi"#;
    assert_eq!(supervise(&tiny, script, &["--quiet"]).code, Some(0));
    let launches = launches(&tiny);
    assert_eq!((launches.len(), &launches[0]), (2, &launches[1]));
}

#[test]
fn what_fails_the_same_way_again_is_not_looped() {
    let tiny = TinyModel::new();
    let ran = supervise(&tiny, "exit 1", &["--restarts", "9", "--quiet"]);
    ran.fails(1, &["exit code 1", "same way"]);
    assert_eq!(launches(&tiny).len(), 2);
    let tiny = TinyModel::new();
    supervise(&tiny, "exit 2", &["--quiet"]).fails(2, &["exit code 2", "request"]);
    assert_eq!(launches(&tiny).len(), 1);
    let tiny = TinyModel::new();
    supervise(&tiny, "kill -9 $$", &["--restarts", "2", "--quiet"]).fails(137, &["signal 9", "no restarts"]);
    assert_eq!(launches(&tiny).len(), 3);
    // Progress in between counts: three failures, each with a checkpoint more.
    let tiny = TinyModel::new();
    let script = r#"n=$(wc -l < "$here/launches"); touch "$R/checkpoints/step-0000000$n.ckpt"; [ $n = 4 ]"#;
    assert_eq!(supervise(&tiny, script, &["--quiet"]).code, Some(0));
    assert_eq!(launches(&tiny).len(), 4);
}

#[test]
fn a_run_that_stands_still_is_killed_with_all_it_has_started() {
    let tiny = TinyModel::new();
    let script = r#"
        case "$*" in *--resume*) exit 0 ;; esac
        sh -c 'echo $$ > '"$here"'/child; trap "" TERM; while :; do sleep 1; done' &
        for i in 1 2 3 4 5 6; do echo "{}" >> "$R/metrics.jsonl"; sleep 0.25; done
        sleep 60"#;
    let began = Instant::now();
    let ran = supervise(&tiny, script, &["--stall", "1", "--json"]);
    let answer = ran.json();
    assert_eq!((&answer["launches"][0]["stalled"], &answer["launches"][0]["exit_code"]), (&true.into(), &137.into()));
    // Not while metrics were moving, and long before it would have ended by itself.
    assert!(answer["launches"][0]["seconds"].as_f64().unwrap() >= 2.0, "{answer}");
    assert!(began.elapsed() < Duration::from_secs(30), "{answer}");
    assert!(ran.stderr.contains("stood still"), "{ran:?}");
    let child = fs::read_to_string(tiny.folder.path().join("child")).unwrap();
    assert!(ends_soon(child.trim()), "{child} has survived");
}

/// Whether a process is gone, or a body that waits to be reaped, within a moment.
fn ends_soon(pid: &str) -> bool {
    let state = || {
        let output = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let state = state();
        if state.trim().is_empty() || state.starts_with('Z') {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_request_to_end_is_passed_on() {
    let tiny = TinyModel::new();
    let script =
        tiny.write("fake.sh", &format!("{BEGIN}trap 'exit 7' TERM\n: > \"$here/ready\"\nwhile :; do sleep 0.05; done"));
    let child = Command::new(env!("CARGO_BIN_EXE_krystal"))
        .args(["supervise", "--", "sh", &script, "train", "--run-dir", &tiny.path("run")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&tiny.folder.path().join("ready"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(launches(&tiny).len(), 1);
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "no {}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_run_ends_with_the_bytes_of_one_that_was_not() {
    let tiny = TinyModel::new();
    let lines: String = (0..40).map(|i| format!("{{\"prompt\": \"{i} and\", \"answer\": \"{i}\"}}\n")).collect();
    let data = tiny.write("data.jsonl", &lines);
    // Kills the first launch as soon as it has a checkpoint; `exec` makes the second one the real thing.
    let killer = tiny.write(
        "krystal.sh",
        r#"here=$(dirname "$0")
        if [ -e "$here/killed" ]; then exec "$KRYSTAL" "$@"; fi
        "$KRYSTAL" "$@" &
        while ! ls "$here"/supervised/checkpoints/*.ckpt >/dev/null 2>&1; do sleep 0.01; done
        kill -9 $! && : > "$here/killed"
        wait $!"#,
    );
    let model = tiny.model();
    let train = |run: &str| -> Vec<String> {
        let text = format!(
            "train --model {model} --data {data} --reward regex:pattern=[a-m]{{2}} --max-steps 60 --checkpoint-every 5 \
             --max-completion-length 20 --lora-r 4 --learning-rate 1e-3 --eval-size 2 --zero-spread-patience 0 --run-dir {run}"
        );
        text.split_whitespace().map(str::to_owned).collect()
    };
    let binary = env!("CARGO_BIN_EXE_krystal");
    let whole = Command::new(binary).args(train(&tiny.path("whole"))).output().unwrap();
    assert!(whole.status.success(), "{whole:?}");
    let output = Command::new(binary)
        .args(["supervise", "--", "sh", &killer])
        .args(train(&tiny.path("supervised")))
        .env("KRYSTAL", binary)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("signal 9; launching it again"), "{output:?}");
    for file in ["adapter/adapter_model.safetensors", "completions.jsonl"] {
        let read = |run: &str| fs::read(tiny.folder.path().join(run).join(file)).unwrap();
        assert!(read("whole") == read("supervised"), "{file} differs");
    }
    let ran = krystal(&["supervise", "--", "krystal", "train", "--run-dir", &tiny.path("whole")]);
    ran.fails(2, &["whole", "--resume"]);
}

#[test]
fn what_cannot_be_supervised() {
    let supervise = |more: &[&str]| krystal(&[&["supervise"], more].concat());
    supervise(&[]).fails(2, &["COMMAND"]);
    supervise(&["--", "krystal", "train"]).fails(2, &["--run-dir"]);
    supervise(&["--", "ls"]).fails(2, &["krystal train"]);
    supervise(&["--stall", "0", "--", "krystal", "train", "--run-dir", "r"]).fails(2, &["--stall"]);
    supervise(&["--restarts", "-1", "--", "krystal", "train", "--run-dir", "r"]).fails(2, &["--restarts"]);
    supervise(&["--", "/no/such/program", "train", "--run-dir", "r"]).fails(1, &["/no/such/program"]);
}
