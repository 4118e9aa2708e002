//! `mpirun -n N krystal train --distributed mpi`: as many ranks as there may be, the same bytes.

#[path = "it/tiny_model.rs"]
mod tiny_model;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tiny_model::TinyModel;

type Test = fn(&TinyModel);

/// What is trained.
const KINDS: [(&str, &[&str]); 3] = [
    ("lora", &[]),
    ("all", &["--train", "all", "--learning-rate", "1e-3"]),
    ("dynamic", &["--adapter", "dynamic", "--agents", "2"]),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // How nextest asks for the names of tests.
        ["--list", .., "--ignored"] => return ExitCode::SUCCESS,
        ["--list", ..] => {
            println!("jobs: test");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if Command::new("mpirun").arg("--version").output().is_err() {
        println!("skipped: tests of krystal on several ranks: mpirun is not here");
        return ExitCode::SUCCESS;
    }
    let tiny = TinyModel::new();
    let tests: [(&str, Test); 6] = [
        ("any_number_of_ranks_trains_the_same", any_number_of_ranks_trains_the_same),
        ("demonstrations_are_learned_from_the_same", demonstrations_are_learned_from_the_same),
        ("the_demonstration_is_handed_to_every_rank", the_demonstration_is_handed_to_every_rank),
        ("without_mpirun_there_is_one_rank", without_mpirun_there_is_one_rank),
        ("what_a_rank_refuses_ends_all", what_a_rank_refuses_ends_all),
        ("a_killed_rank_costs_no_byte", a_killed_rank_costs_no_byte),
    ];
    for (name, test) in tests {
        let started = Instant::now();
        test(&tiny);
        println!("test {name} ... ok ({:.1?})", started.elapsed());
    }
    println!("test result: ok. {} passed; 0 failed", tests.len());
    ExitCode::SUCCESS
}

/// `krystal` on `ranks` ranks of this machine; on 0 without `mpirun`, as it is.
fn krystal(ranks: usize, arguments: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_krystal");
    let mut command = if ranks == 0 {
        Command::new(binary)
    } else {
        let mut command = Command::new("mpirun");
        command.args(["-n", &ranks.to_string(), binary]);
        command
    };
    command
        .args(arguments)
        // Containers are often root, and have fewer cores than there are ranks; Open MPI 4 and 5 must be told that we know.
        .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
        .envs([("PRTE_ALLOW_RUN_AS_ROOT", "1"), ("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
        // Ranks without a core of their own must not spin while they wait.
        .env("OMPI_MCA_mpi_yield_when_idle", "1")
        // A job that hangs is a failure, not a test that never ends.
        .env("MPIEXEC_TIMEOUT", "300")
        .stdin(Stdio::null());
    command
}

/// What it says, where it succeeds.
fn succeed(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn train(tiny: &TinyModel, ranks: usize, run: &str, more: &[&str]) -> Command {
    let line = |i: usize| format!("{{\"prompt\": \"{i} and so on and on\", \"answer\": \"{i}\"}}\n");
    let data = tiny.write("data.jsonl", &(0..40).map(line).collect::<String>());
    let (model, run) = (tiny.model(), tiny.path(run));
    let usual = ["train", "--model", &model, "--data", &data, "--run-dir", &run, "--reward", "regex:pattern=[a-m]{2}"];
    let sizes = ["--max-steps", "4", "--prompts-per-step", "12", "--max-completion-length", "12", "--eval-size", "10"];
    let others = ["--seed", "7", "--checkpoint-every", "2", "--lora-r", "6", "--threads", "1", "--json"];
    let mut arguments = [&usual[..], &sizes, &others, more].concat();
    if ranks > 0 {
        arguments.extend(["--distributed", "mpi"]);
    }
    krystal(ranks, &arguments)
}

/// Every file of a run but its configuration and its checkpoints, without what a clock has said.
fn files(tiny: &TinyModel, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let run = PathBuf::from(tiny.path(run));
    let (mut found, mut folders) = (BTreeMap::new(), vec![run.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&run).unwrap().to_owned();
            if path.is_dir() {
                folders.extend((name != Path::new("checkpoints")).then_some(path));
            } else if name == Path::new("metrics.jsonl") {
                found.insert(name, metrics(&path).into_bytes());
            } else if name != Path::new("config.toml") {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

fn metrics(path: &Path) -> String {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().retain(|key, _| !["step_time", "tokens_per_second"].contains(&key.as_str()));
        format!("{line}\n")
    };
    fs::read_to_string(path).unwrap().lines().map(line).collect()
}

fn assert_same(tiny: &TinyModel, run: &str, expected: &str) {
    let (found, expected) = (files(tiny, run), files(tiny, expected));
    assert!(found.keys().eq(expected.keys()), "{run}: {:?} {:?}", found.keys(), expected.keys());
    assert!(expected.contains_key(Path::new("metrics.jsonl")));
    expected.iter().for_each(|(name, content)| assert!(found[name] == *content, "{run}: {} differs", name.display()));
}

fn any_number_of_ranks_trains_the_same(tiny: &TinyModel) {
    for (kind, options) in KINDS {
        let expected = format!("{kind}-alone");
        let alone: Value = serde_json::from_str(&succeed(train(tiny, 0, &expected, options))).unwrap();
        for ranks in [1, 2, 4] {
            let run = format!("{kind}-{ranks}");
            // One rank speaks, in one line.
            let said: Value = serde_json::from_str(&succeed(train(tiny, ranks, &run, options))).unwrap();
            assert!(["kl", "eval_after", "reward_last", "num_tokens"].iter().all(|key| said[*key] == alone[*key]));
            assert_same(tiny, &run, &expected);
            let config = fs::read_to_string(tiny.path(&format!("{run}/config.toml"))).unwrap();
            assert!(config.contains("distributed = \"mpi\""), "{config}");
        }
    }
    let path = |kind: &str, file: &str| PathBuf::from(tiny.path(kind)).join(file);
    assert!(path("lora-4", "adapter/adapter_model.safetensors").exists());
    assert!(
        path("all-4", "model/model.safetensors").exists()
            && path("dynamic-4", "adapter/hierarchy/dynlora.json").exists()
    );
}

fn demonstrations_are_learned_from_the_same(tiny: &TinyModel) {
    let line = |i: usize| format!("{{\"prompt\": \"{i} and so on and on\", \"completion\": \"{i} and no further\"}}\n");
    let data = tiny.write("demonstrations.jsonl", &(0..80).map(line).collect::<String>());
    let (model, adapter) = (tiny.model(), tiny.adapter());
    for ranks in [0, 3] {
        let run = tiny.path(&format!("sft-{ranks}"));
        let usual = ["sft", "--model", &model, "--adapter", &adapter, "--data", &data, "--run-dir", &run, "--json"];
        let sizes = ["--max-steps", "3", "--batch-size", "32", "--learning-rate", "1e-3", "--threads", "1"];
        let how = ["--distributed", if ranks == 0 { "none" } else { "mpi" }];
        succeed(krystal(ranks, &[&usual[..], &sizes, &how].concat()));
    }
    assert_same(tiny, "sft-3", "sft-0");
}

/// The files of a demonstration whose warm-up is over are on the first rank alone.
fn the_demonstration_is_handed_to_every_rank(tiny: &TinyModel) {
    let lines = |range: std::ops::Range<usize>| -> String {
        range.map(|i| format!("{{\"prompt\": \"{i} and so on\", \"answer\": \"{i}\"}}\n")).collect()
    };
    let run = PathBuf::from(tiny.path("demonstration"));
    for ranks in [0, 3] {
        fs::create_dir_all(run.join("base")).unwrap();
        for file in fs::read_dir(tiny.model()).unwrap().map(|entry| entry.unwrap().path()) {
            fs::copy(&file, run.join("base").join(file.file_name().unwrap())).unwrap();
        }
        fs::write(run.join("train.jsonl"), lines(0..40)).unwrap();
        fs::write(run.join("held_out.jsonl"), lines(40..50)).unwrap();
        fs::write(run.join("config.toml"), "reward = \"regex:pattern=[a-m]{2}\"\nmax_steps = 2\n").unwrap();
        let usual = ["train", "--resume", run.to_str().unwrap(), "--prompts-per-step", "12", "--threads", "1"];
        let how = ["--distributed", if ranks == 0 { "none" } else { "mpi" }];
        succeed(krystal(ranks, &[&usual[..], &how].concat()));
        // The folder's name is in the adapter's files.
        fs::rename(&run, tiny.path(&format!("demonstration-{ranks}"))).unwrap();
    }
    assert_same(tiny, "demonstration-3", "demonstration-0");
}

fn without_mpirun_there_is_one_rank(tiny: &TinyModel) {
    let mut command = train(tiny, 0, "single", &["--distributed", "mpi"]);
    command.env_remove("MPIEXEC_TIMEOUT");
    succeed(command);
    assert_same(tiny, "single", "lora-alone");
}

fn what_a_rank_refuses_ends_all(tiny: &TinyModel) {
    let Output { status, stdout, stderr } = train(tiny, 2, "lora-2", &[]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!status.success() && stderr.contains("holds another run"), "{stderr}");
    let objects: Vec<_> = stdout.lines().filter(|line| line.starts_with('{')).collect();
    assert!(objects.len() == 1 && objects[0].contains("error"), "{stdout}");
    // A program that is there and fails on the second rank alone.
    let judge = "test \"$OMPI_COMM_WORLD_RANK$PMI_RANK\" = 0 && while read -r line; do echo '{\"score\": 1}'; done";
    let reward = format!("command:sh {}", tiny.write("judge.sh", judge));
    let Output { status, stderr, .. } = train(tiny, 2, "judged", &["--reward", &reward]).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(!status.success(), "{stderr}");
    assert!(stderr.contains("error: rank 1: reward `command`") && stderr.contains("rank 1 failed"), "{stderr}");
}

fn a_killed_rank_costs_no_byte(tiny: &TinyModel) {
    let longer = ["--max-steps", "40"];
    succeed(train(tiny, 0, "whole", &longer));
    let mut job = train(tiny, 2, "killed", &longer).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = PathBuf::from(tiny.path("killed/metrics.jsonl"));
    // In the middle of step 6 or one after it; the line of step 0 is the evaluation's.
    wait_for(&mut job, || fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 5));
    let victim = ranks_of(job.id()).pop().expect("a rank");
    assert!(Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap().success());
    let started = Instant::now();
    assert!(!job.wait().unwrap().success() && started.elapsed() < Duration::from_secs(60));
    let steps = fs::read_to_string(&log).unwrap().lines().count();
    assert!(steps < 41, "it was over before it could be killed");
    let run = tiny.path("killed");
    succeed(krystal(3, &["train", "--resume", &run]));
    assert_same(tiny, "killed", "whole");
}

/// Waits until something has happened, while the job lasts.
fn wait_for(job: &mut Child, mut has_happened: impl FnMut() -> bool) {
    while !has_happened() {
        assert!(job.try_wait().unwrap().is_none(), "the job has ended");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The processes of `krystal` under this `mpirun`.
fn ranks_of(mpirun: u32) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_rank = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        field("Name:") == Some("krystal") && field("PPid:") == Some(mpirun.to_string().as_str())
    };
    ids.filter(is_rank).collect()
}
