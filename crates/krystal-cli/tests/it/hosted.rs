//! Hosted models, against a server of our own.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat_server::{ChatServer, Say, instructions, question};
use crate::krystal::{Ran, krystal, krystal_with};
use crate::tiny_model::TinyModel;

/// Sums whose answers are in the column `answer`.
fn sums(tiny: &TinyModel, n: usize) -> String {
    let lines: String =
        (0..n).map(|i| format!("{{\"prompt\": \"{i}+{}=\", \"answer\": \"{}\"}}\n", i * 3, i * 4)).collect();
    tiny.write("sums.jsonl", &lines)
}

/// What `a+b=` comes to.
fn sum(question: &str) -> usize {
    question.trim_end_matches('=').split('+').map(|n| n.trim().parse::<usize>().unwrap()).sum()
}

fn text(text: impl ToString) -> Say {
    Say::Text(text.to_string())
}

fn lines(path: &str) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn eval(tiny: &TinyModel, target: &str, data: &str, more: &[&str]) -> Ran {
    let answers = tiny.path("answers.jsonl");
    let arguments = ["eval", "--provider", target, "--data", data, "--reward", "exact", "--answers", &answers];
    krystal(&[&arguments, more].concat())
}

#[test]
fn a_hosted_model_is_evaluated() {
    let tiny = TinyModel::new();
    // Wrong for multiples of five; later questions are answered sooner.
    let server = ChatServer::new(|body| {
        let n = sum(question(body));
        let answer = text(if n.is_multiple_of(20) { n + 1 } else { n });
        Say::Later(Duration::from_millis(60_u64.saturating_sub(n as u64 / 2)), Box::new(answer))
    });
    let (data, out) = (sums(&tiny, 30), tiny.path("out.jsonl"));
    let prices = tiny.write("prices.toml", "[\"m*\"]\ninput = 1.0\noutput = 10.0\n");
    let target = server.target("m");
    let answer = eval(&tiny, &target, &data, &["--json", "--out", &out, "--prices", &prices]).json();
    assert_eq!(
        (answer["n"].as_u64(), answer["answers"].as_u64(), answer["kept"].as_u64()),
        (Some(30), Some(30), Some(0))
    );
    assert_eq!((answer["pass@1"].as_f64(), answer["abstained"].as_u64()), (Some(0.8), Some(0)));
    assert_eq!((answer["input_tokens"].as_u64(), answer["output_tokens"].as_u64()), (Some(210), Some(30)));
    assert!((answer["cost_usd"].as_f64().unwrap() - (210.0 * 1.0 + 30.0 * 10.0) / 1e6).abs() < 1e-12, "{answer}");
    // In the order of the data, whatever order they came in.
    let written = lines(&out);
    assert_eq!(
        written.iter().map(|line| line["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        (0..30).collect::<Vec<_>>()
    );
    assert_eq!(written[7]["completion"], "28");
    assert_eq!((&written[5]["passed"], &written[7]["passed"]), (&json!(false), &json!(true)));
    // Again: nothing is asked, and the result is the same.
    let again = eval(&tiny, &target, &data, &["--json", "--out", &out, "--prices", &prices]).json();
    assert_eq!((server.asked().len(), again["kept"].as_u64()), (30, Some(30)));
    assert_eq!((&again["pass@1"], &again["cost_usd"]), (&answer["pass@1"], &answer["cost_usd"]));
    assert_eq!(lines(&out), written);
    // More samples ask for what is missing; another seed for everything.
    eval(&tiny, &target, &data, &["--samples", "2", "--k", "1,2"]);
    assert_eq!(server.asked().len(), 60);
    eval(&tiny, &target, &data, &["--seed", "1"]);
    assert_eq!(server.asked().len(), 90);
    let people = eval(&tiny, &target, &data, &[]).stdout;
    assert!(
        people.contains("pass@1           80.0 %") && people.contains("30 of 30, 30 from before, 0 new"),
        "{people}"
    );
    let told = eval(&tiny, &target, &data, &["--limit", "1", "--system", "Be brief.", "--temperature", "0.5"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let last = server.asked().pop().unwrap();
    assert_eq!((instructions(&last), &last["temperature"]), ("Be brief.", &json!(0.5)));
}

#[test]
fn an_evaluation_goes_on_after_it_was_killed() {
    let tiny = TinyModel::new();
    let server = ChatServer::new(|body| Say::Later(Duration::from_millis(40), Box::new(text(sum(question(body))))));
    let (data, target, answers) = (sums(&tiny, 60), server.target("m"), tiny.path("answers.jsonl"));
    let arguments = ["eval", "--provider", &target, "--data", &data, "--reward", "exact", "--answers", &answers];
    let mut child = Command::new(env!("CARGO_BIN_EXE_krystal"))
        .args(arguments)
        .args(["--concurrency", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while fs::read_to_string(&answers).map_or(0, |text| text.lines().count()) < 10 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is answered");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = fs::read_to_string(&answers).unwrap().lines().count();
    assert!((10..60).contains(&kept), "{kept}");
    // As if the last line had been cut.
    let mut text = fs::read_to_string(&answers).unwrap();
    text.push_str("{\"key\": \"half a li");
    fs::write(&answers, text).unwrap();
    let before = server.asked().len();
    let answer = eval(&tiny, &target, &data, &["--json"]).json();
    assert_eq!((answer["pass@1"].as_f64(), answer["kept"].as_u64()), (Some(1.0), Some(kept as u64)));
    assert_eq!(server.asked().len() - before, 60 - kept);
}

#[test]
#[cfg(unix)]
fn an_interrupted_evaluation_keeps_what_came() {
    let tiny = TinyModel::new();
    let server = ChatServer::new(|body| Say::Later(Duration::from_millis(30), Box::new(text(sum(question(body))))));
    let (data, target, answers) = (sums(&tiny, 200), server.target("m"), tiny.path("answers.jsonl"));
    let child = Command::new(env!("CARGO_BIN_EXE_krystal"))
        .args(["eval", "--provider", &target, "--data", &data, "--reward", "exact", "--answers", &answers])
        .args(["--concurrency", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while fs::read_to_string(&answers).map_or(0, |text| text.lines().count()) < 5 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is answered");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted: ") && stderr.contains("the same command goes on"), "{stderr}");
    let kept = fs::read_to_string(&answers).unwrap().lines().count();
    assert!((5..200).contains(&kept) && stderr.contains(&format!("{kept} of 200 answers")), "{kept} {stderr}");
}

#[test]
fn failures_are_counted_and_not_scored() {
    let tiny = TinyModel::new();
    let server = ChatServer::new(|body| match sum(question(body)) {
        0 => Say::Cut(String::new()),
        8 => Say::Error(422),
        16 => Say::Error(400),
        n => text(n),
    });
    let (data, target, out) = (sums(&tiny, 8), server.target("m"), tiny.path("out.jsonl"));
    let answer = eval(&tiny, &target, &data, &["--json", "--out", &out]).json();
    assert_eq!(answer["failed"], json!({ "invalid_request": 2 }));
    // Five of the six that were answered.
    assert!((answer["pass@1"].as_f64().unwrap() - 5.0 / 6.0).abs() < 1e-12, "{answer}");
    assert!((answer["clipped_ratio"].as_f64().unwrap() - 1.0 / 6.0).abs() < 1e-12);
    let written = lines(&out);
    assert_eq!(
        (written.len(), &written[2]["failure"], &written[2]["completion"]),
        (8, &json!("invalid_request"), &Value::Null)
    );
    let people = eval(&tiny, &target, &data, &[]).stdout;
    assert!(people.contains("invalid_request 2; not scored"), "{people}");
    let refused = ChatServer::new(|_| Say::Error(401));
    eval(&tiny, &refused.target("m"), &data, &[]).fails(1, &["401", "0 of 8 answers"]);
    assert!(refused.asked().len() <= 8);
    // Prices and budgets.
    let prices = tiny.write("prices.toml", "[m]\ninput = 1000.0\noutput = 0.0\n");
    let fresh = ChatServer::new(|body| text(sum(question(body))));
    let most = ["--prices", &prices, "--max-cost", "0.03", "--concurrency", "1"];
    eval(&tiny, &fresh.target("m"), &data, &most).fails(1, &["budget of $0.03 is spent", "5 of 8 answers"]);
    eval(&tiny, &fresh.target("m"), &data, &most).fails(1, &["5 of 8 answers"]);
    assert_eq!(fresh.asked().len(), 5);
    eval(&tiny, &fresh.target("other"), &data, &most).fails(2, &["price", "other"]);
}

#[test]
fn requests_that_no_server_is_asked() {
    let tiny = TinyModel::new();
    let data = sums(&tiny, 3);
    let eval = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_krystal"));
        command.args(["eval", "--data", &data, "--reward", "exact", "--answers", &tiny.path("a.jsonl")]).args(more);
        for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY"]
        {
            command.env_remove(name);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    eval(&["--provider", "openai:gpt-5-mini"]).fails(2, &["OPENAI_API_KEY"]);
    eval(&["--provider", "anthropic:claude"]).fails(2, &["ANTHROPIC_API_KEY"]);
    eval(&["--provider", "gemini:flash"]).fails(2, &["GEMINI_API_KEY"]);
    eval(&["--provider", "cohere:command"]).fails(2, &["cohere", "ollama", "openai", "anthropic", "gemini"]);
    eval(&["--provider", "qwen3"]).fails(2, &["qwen3", "ollama:"]);
    for secret in ["sk-planted-planted-planted-planted", "http://name:planted@host/v1#m"] {
        let ran = eval(&["--provider", secret]);
        assert!(ran.code == Some(2) && !ran.stderr.contains("planted"), "{ran:?}");
    }
    eval(&["--provider", "ollama:"]).fails(2, &["ollama:MODEL"]);
    eval(&["--provider", "ollama"]).fails(2, &["no model is named", "ollama:MODEL"]);
    eval(&["--provider", "http://127.0.0.1:1/v1"]).fails(2, &["#"]);
    eval(&["--provider", "http://127.0.0.1:1/v1#m", "--limit", "1"]).fails(1, &["127.0.0.1:1"]);
    eval(&["--provider", "http://127.0.0.1:1/v1#m", "--max-cost", "1"]).fails(2, &["--prices"]);
    eval(&["--provider", "ollama:a", "--provider", "ollama:b"]).fails(2, &["--route"]);
    eval(&["--provider", "ollama:a", "--route", "compare"]).fails(2, &["second --provider"]);
    eval(&["--provider", "ollama:a", "--provider", "ollama:a", "--route", "compare"]).fails(2, &["given twice"]);
    eval(&["--provider", "ollama:a", "--model", "x"]).fails(2, &["expected one of the three"]);
    eval(&["--provider", "ollama:a", "--reward", "repetition"]).fails(2, &["repetition", "counts tokens"]);
    krystal(&["chat", "--provider", "ollama:a", "--min-p", "0.1"]).fails(2, &["--min-p", "hosted"]);
    krystal(&["chat"]).fails(2, &["--model", "--provider"]);
    krystal(&["sft", "--task", "arithmetic"]).fails(2, &["--teacher"]);
    // What is refused leaves no folder behind.
    let run = tiny.path("refused");
    krystal(&["sft", "--teacher", "ollama:a", "--data", &data, "--run-dir", &run])
        .fails(2, &["--reward", "--accept-all"]);
    krystal(&["sft", "--teacher", "ollama", "--data", &data, "--accept-all", "--run-dir", &run])
        .fails(2, &["no model"]);
    assert!(!fs::exists(run).unwrap());
    let judge = ["train", "--model", &tiny.model(), "--data", &data, "--judge", "ollama:a"];
    krystal(&judge).fails(2, &["--rubric"]);
    krystal(&[&judge[..], &["--rubric-file", &tiny.path("none.md")]].concat()).fails(1, &["none.md", "cannot read"]);
}

#[test]
fn a_hosted_model_talks() {
    let server = ChatServer::new(|body| match question(body) {
        "fail" => Say::Error(400),
        said => Say::Thought(
            "let me see".to_owned(),
            format!("you said {said} after {}", body["messages"].as_array().unwrap().len()),
        ),
    });
    let target = server.target("m");
    let talk = ["chat", "--provider", &target, "--system", "Be kind."];
    let ran = krystal_with("one\ntwo\n/reset\nthree\n", &talk);
    assert_eq!(ran.stdout, "you said one after 2\nyou said two after 4\nyou said three after 2\n", "{ran:?}");
    let answer = krystal_with("one\ntwo\n", &[&talk[..], &["--json"]].concat()).json();
    let contents: Vec<&str> =
        answer["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["Be kind.", "one", "you said one after 2", "two", "you said two after 4"]);
    assert_eq!(answer["input_tokens"], 14);
    let asked = server.asked();
    assert!(asked.iter().all(|body| body["stream"] == true && instructions(body) == "Be kind."));
    krystal_with("fail\n", &talk).fails(1, &["400"]);
}

/// The completion that a judge is shown, read as its instructions say.
fn graded(body: &Value) -> String {
    let code = instructions(body).split("[answer ").nth(1).unwrap().split(']').next().unwrap();
    let (_, rest) = question(body).split_once(&format!("\n[answer {code}]\n")).unwrap();
    rest.split_once(&format!("\n[/answer {code}]\n")).unwrap().0.to_owned()
}

fn train(tiny: &TinyModel, data: &str, run: &str, target: &str, more: &[&str]) -> Ran {
    let (model, run) = (tiny.model(), tiny.path(run));
    let arguments = [
        "train",
        "--model",
        &model,
        "--data",
        data,
        "--run-dir",
        &run,
        "--judge",
        target,
        "--rubric",
        "Has the letter a.",
        "--judge-votes",
        "2",
        "--max-steps",
        "2",
        "--max-completion-length",
        "6",
        "--lora-r",
        "2",
        "--seed",
        "7",
        "--checkpoint-every",
        "1",
        "--eval-size",
        "0",
        "--prompts-per-step",
        "2",
        "--num-generations",
        "4",
        "--json",
    ];
    krystal(&[&arguments, more].concat())
}

/// The lines of `metrics.jsonl` without what a clock has said.
fn metrics(tiny: &TinyModel, run: &str) -> Vec<Value> {
    let mut lines = lines(&tiny.path(&format!("{run}/metrics.jsonl")));
    for line in &mut lines {
        line.as_object_mut().unwrap().retain(|key, _| !["step_time", "tokens_per_second"].contains(&key.as_str()));
    }
    lines
}

#[test]
fn a_judge_trains() {
    let tiny = TinyModel::new();
    let judge = |body: &Value| {
        let answer = graded(body);
        match answer.chars().filter(char::is_ascii_alphabetic).count() {
            5 => text("no verdict"),
            n => text(json!({ "reason": "so", "score": n })),
        }
    };
    let server = ChatServer::new(judge);
    let target = server.target("m");
    let data = sums(&tiny, 10);
    let answer = train(&tiny, &data, "run", &target, &["--reward", "regex=0.5:pattern=[a-m]"]).json();
    let calls = server.asked().len();
    assert!(answer["judge"]["calls"].as_u64() == Some(calls as u64) && calls > 0 && calls <= 32, "{answer} {calls}");
    let completions = lines(&tiny.path("run/completions.jsonl"));
    assert_eq!(completions.len(), 16);
    for line in &completions {
        let letters = line["completion"].as_str().unwrap().chars().filter(char::is_ascii_alphabetic).count();
        let expected = if letters == 5 { Value::Null } else { json!(letters as f64 / 10.0) };
        assert_eq!(line["judge"], expected, "{line}");
    }
    assert!(metrics(&tiny, "run").iter().any(|line| line["rewards/judge/mean"].is_number()));
    // Asked in JSON, by a schema.
    assert_eq!(server.asked()[0]["response_format"]["type"], "json_schema");
    // The same seed and the same verdicts: the same run, and nothing is asked twice.
    fs::create_dir(tiny.path("again")).unwrap();
    let journal = fs::read_to_string(tiny.path("run/judge.jsonl")).unwrap();
    let other = ChatServer::new(judge);
    assert_eq!(
        train(&tiny, &data, "fresh", &other.target("m"), &["--reward", "regex=0.5:pattern=[a-m]"]).code,
        Some(0)
    );
    assert_eq!(metrics(&tiny, "fresh"), metrics(&tiny, "run"));
    assert_eq!(journal.lines().count(), calls);
    let resumed = krystal(&["train", "--resume", &tiny.path("run"), "--max-steps", "2", "--json"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(server.asked().len(), calls);
}

#[test]
fn a_judge_that_fails_ends_the_run_and_what_it_said_is_kept() {
    let tiny = TinyModel::new();
    let (data, calls) = (sums(&tiny, 10), AtomicUsize::new(0));
    let server = ChatServer::new(move |body| match calls.fetch_add(1, Ordering::SeqCst) {
        20..30 => Say::Error(401),
        _ => text(json!({ "reason": "so", "score": graded(body).len() % 11 })),
    });
    let target = server.target("m");
    let ran = train(&tiny, &data, "run", &target, &["--concurrency", "1", "--quiet"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("judge") && ran.stderr.contains("401") && ran.stderr.contains("--resume"), "{ran:?}");
    // Beyond the failures.
    let before = server.asked().len();
    let kept = fs::read_to_string(tiny.path("run/judge.jsonl")).unwrap().lines().count();
    let mut code = Some(1);
    for _ in 0..12 {
        if code == Some(0) {
            break;
        }
        code = krystal(&["train", "--resume", &tiny.path("run"), "--json"]).code;
    }
    assert_eq!(code, Some(0));
    let all = fs::read_to_string(tiny.path("run/judge.jsonl")).unwrap().lines().count();
    // Every verdict was asked for once, the refused calls aside.
    assert_eq!(server.asked().len() - before, all - kept + 9, "{all} {kept} {before}");
}

#[test]
fn a_teacher_is_learned_from_where_it_is_right() {
    let tiny = TinyModel::new();
    let server = ChatServer::new(|body| match sum(question(body)) {
        n if n % 12 == 0 => text(n + 1),
        n if n % 28 == 0 => Say::Cut(n.to_string()),
        n => text(format!(" {n}\n")),
    });
    let (data, run) = (sums(&tiny, 24), tiny.path("run"));
    let target = server.target("m");
    let teach = [
        "sft",
        "--teacher",
        &target,
        "--data",
        &data,
        "--reward",
        "exact",
        "--run-dir",
        &run,
        "--teacher-system",
        "Digits.",
    ];
    let answer = krystal(&[&teach[..], &["--json"]].concat()).json();
    let teacher = &answer["teacher"];
    // Of 0 to 23, multiples of 3 are wrong; 7 and 14 are cut.
    assert_eq!(
        (teacher["kept"].as_u64(), teacher["refused"].as_u64(), teacher["cut"].as_u64()),
        (Some(14), Some(8), Some(2))
    );
    assert!((teacher["acceptance_rate"].as_f64().unwrap() - 14.0 / 24.0).abs() < 1e-12);
    let demonstrations = lines(&tiny.path("run/demonstrations.jsonl"));
    assert_eq!(demonstrations[0], json!({ "prompt": "1+3=", "completion": "4" }));
    assert!(server.asked().iter().all(|body| instructions(body) == "Digits."));
    // Trained on, without being asked again.
    let learn = ["--model", &tiny.model(), "--max-steps", "2", "--batch-size", "4", "--json"];
    let trained = krystal(&[&["sft", "--resume", &run][..], &learn].concat()).json();
    assert_eq!((trained["steps"].as_u64(), &trained["teacher"]["kept"]), (Some(2), &teacher["kept"]));
    assert_eq!(server.asked().len(), 24);
    // All of them, and several of each.
    let all = krystal(&[
        "sft",
        "--teacher",
        &target,
        "--data",
        &data,
        "--accept-all",
        "--teacher-samples",
        "2",
        "--run-dir",
        &tiny.path("all"),
        "--json",
    ])
    .json();
    assert_eq!((all["teacher"]["kept"].as_u64(), all["teacher"]["repeated"].as_u64()), (Some(22), Some(22)));
    let task = krystal(&[
        "sft",
        "--teacher",
        &target,
        "--task",
        "arithmetic",
        "--limit",
        "4",
        "--run-dir",
        &tiny.path("task"),
    ]);
    assert!(task.code == Some(0) || task.stderr.contains("none of 4"), "{task:?}");
}

#[test]
fn a_router_learns_whom_to_ask() {
    let tiny = TinyModel::new();
    // One model is good at short questions, the other at long ones.
    let server = ChatServer::new(|body| {
        let asked = question(body);
        let n = sum(asked.trim_start_matches('0'));
        let right = (body["model"] == "long") == (asked.len() > 8);
        text(if right { n } else { n + 1 })
    });
    let line = |i: usize| {
        let zeros = if i.is_multiple_of(2) { "0".repeat(40) } else { String::new() };
        format!("{{\"prompt\": \"{zeros}{}+{i}=\", \"answer\": \"{}\"}}\n", i + 1, 2 * i + 1)
    };
    let data = tiny.write("mixed.jsonl", &(0..120).map(line).collect::<String>());
    let (one, two, answers) = (server.target("long"), server.target("short"), tiny.path("answers.jsonl"));
    let arguments = [
        "eval",
        "--provider",
        &one,
        "--provider",
        &two,
        "--data",
        &data,
        "--reward",
        "exact",
        "--answers",
        &answers,
        "--latency-weight",
        "0",
    ];
    let learned = krystal(&[&arguments[..], &["--route", "learned", "--json"]].concat()).json();
    assert_eq!((learned["n"].as_u64(), learned["regret"].as_f64()), (Some(120), None));
    assert_eq!(server.asked().len(), 120);
    assert!(learned["pass@1"].as_f64().unwrap() > 0.55, "{learned}");
    let compared = krystal(&[&arguments[..], &["--route", "compare", "--json"]].concat()).json();
    assert_eq!(
        (server.asked().len(), compared["kept"].as_u64(), compared["compared"].as_u64()),
        (240, Some(120), Some(120))
    );
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!((number(&compared["providers"][0]["worth"]), number(&compared["oracle_worth"])), (0.5, 1.0));
    assert!(number(&compared["learned"]["regret"]) < -0.1 && number(&compared["learned"]["won"]) > 0.9, "{compared}");
    // Now that all were asked, what the choices lost or won is known, and nothing is asked.
    let again = krystal(&[&arguments[..], &["--route", "learned", "--json"]].concat()).json();
    assert_eq!((server.asked().len(), &again["pass@1"]), (240, &learned["pass@1"]));
    assert!((number(&again["regret"]) - (0.5 - number(&again["pass@1"]))).abs() < 1e-9, "{again}");
    let people = krystal(&[&arguments[..], &["--route", "compare"]].concat()).stdout;
    assert!(people.contains("the learned router beats the best fixed choice"), "{people}");
}
