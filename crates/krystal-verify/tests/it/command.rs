//! Programs that score: good ones, slow ones, dying ones and lying ones.

use std::time::{Duration, Instant};

use krystal_verify::{Command, Error, Sample, Verdict, Verifier};
use serde_json::{Map, Value, json};

/// A program written for the shell.
fn shell(script: &str) -> Command {
    let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let command = Command::new(words).expect("three words");
    command.with_timeout(Duration::from_secs(20))
}

fn judge(command: &Command, completions: &[&str]) -> Result<Vec<Verdict>, Error> {
    let columns: Map<String, Value> = serde_json::from_value(json!({"answer": "a\nb"})).expect("an object");
    let samples: Vec<Sample<'_>> = completions
        .iter()
        .map(|completion| Sample {
            prompt: "p",
            completion,
            tokens: &[1, 2],
            truncated: false,
            max_completion_length: 8,
            columns: &columns,
        })
        .collect();
    command.verify_batch(&samples)
}

fn scores(verdicts: &[Verdict]) -> Vec<Option<f64>> {
    verdicts.iter().map(Verdict::value).collect()
}

/// Scores 1 where the request holds "good", and stays up.
const GOOD: &str = r#"n=0; while read -r line; do n=$((n+1)); case "$line" in
*good*) echo "{\"score\": 1, \"n\": $n}";; *null*) echo '{"score": null, "reason": "no oracle"}';; *) echo "{\"score\": 0, \"n\": $n}";; esac; done"#;

#[test]
fn scores_in_order_and_stays_warm() {
    let command = shell(GOOD);
    let first = judge(&command, &["good", "bad", "null", "good"]).expect("scores");
    assert_eq!(scores(&first), [Some(1.0), Some(0.0), None, Some(1.0)]);
    assert_eq!(first[2].reason(), Some("no oracle"));
    assert_eq!(first[3].extra["n"], json!(4));
    // The counter goes on: it is the same process.
    let second = judge(&command, &["good"]).expect("scores");
    assert_eq!((second[0].value(), &second[0].extra["n"]), (Some(1.0), &json!(5)));
    assert!(judge(&command, &[]).expect("nothing to do").is_empty());
}

#[test]
fn replies_with_ids_may_come_in_any_order() {
    // Holds every odd request back until the next one has been answered.
    let command = shell(
        r#"while read -r a && read -r b; do
        ida=$(printf '%s\n' "$a" | sed 's/.*"id":\([0-9]*\).*/\1/'); idb=$(printf '%s\n' "$b" | sed 's/.*"id":\([0-9]*\).*/\1/')
        echo "{\"id\": $idb, \"score\": $idb}"; echo "{\"score\": $ida, \"id\": $ida}"; done"#,
    );
    assert_eq!(scores(&judge(&command, &["a", "b", "c", "d"]).expect("scores")), [0.0, 1.0, 2.0, 3.0].map(Some));
    assert_eq!(scores(&judge(&command, &["a", "b"]).expect("scores")), [4.0, 5.0].map(Some));
}

#[test]
fn the_request_holds_the_sample() {
    let command = shell(r#"while read -r line; do printf '{"score": 1, "request": %s}\n' "$line"; done"#);
    let verdicts = judge(&command, &["a \"quoted\"\nline"]).expect("scores");
    assert_eq!(
        verdicts[0].extra["request"],
        json!({"id": 0, "prompt": "p", "completion": "a \"quoted\"\nline", "n_tokens": 2, "truncated": false,
               "columns": {"answer": "a\nb"}})
    );
}

/// More than any pipe holds, each way: 300 requests of 4 KiB, echoed.
#[test]
fn large_batches_do_not_block() {
    let command =
        shell(r#"while read -r line; do printf '{"score": 1, "request": %s}\n' "$line"; echo "$line" >&2; done"#);
    let long = "x".repeat(4_096);
    let verdicts = judge(&command, &vec![long.as_str(); 300]).expect("scores");
    assert!(verdicts.iter().all(|verdict| verdict.value() == Some(1.0)));
    assert_eq!(verdicts[299].extra["request"]["id"], json!(299));
}

#[test]
fn a_stuck_item_abstains_and_the_others_are_scored() {
    let marker = tempfile::tempdir().expect("a temporary folder");
    let file = marker.path().join("late");
    // The stuck item starts a grandchild that would write a file after the deadline if it survived.
    let script = format!(
        r#"while read -r line; do case "$line" in *stuck*) (sleep 3; echo late > '{}') & sleep 60;; *) echo '{{"score": 1}}';; esac; done"#,
        file.display()
    );
    let command = shell(&script).with_timeout(Duration::from_secs(1));
    let start = Instant::now();
    // A reply first, so that the start-up allowance is used up.
    let verdicts = judge(&command, &["a", "stuck", "b", "c"]).expect("scores");
    assert_eq!(scores(&verdicts), [Some(1.0), None, Some(1.0), Some(1.0)]);
    assert_eq!(verdicts[1].reason(), Some("reward command `/bin/sh` gave no reply within 1 s"));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(3_500));
    assert!(!file.exists(), "the process group outlived its deadline");
}

/// The clock runs per item: 16 items of 0.2 s pass under a deadline of 2 s.
#[test]
fn waiting_in_line_costs_nobody() {
    let command = shell(r#"while read -r line; do sleep 0.2; echo '{"score": 1}'; done"#);
    let command = command.with_timeout(Duration::from_secs(2)).with_startup(Duration::ZERO);
    assert_eq!(scores(&judge(&command, &["a"; 16]).expect("scores")), [Some(1.0); 16]);
}

#[test]
fn always_late_is_an_error() {
    let command = shell(r#"echo 'warming up' >&2; while read -r line; do sleep 60; done"#);
    let command = command.with_timeout(Duration::from_millis(50)).with_startup(Duration::from_millis(300));
    let error = judge(&command, &["a", "b", "c", "d"]).expect_err("it never answers");
    assert_eq!(
        error.to_string(),
        "reward command `/bin/sh` gave no reply within 0.05 s, 3 times in a row (does it flush its output after every \
         line?); last line on stderr: warming up"
    );
}

#[test]
fn an_item_that_ends_the_program_twice_abstains() {
    let command = shell(
        r#"while read -r line; do case "$line" in *deadly*) echo 'Traceback' >&2; echo 'ValueError: deadly' >&2; exit 7;;
        *) echo '{"score": 1}';; esac; done"#,
    );
    let verdicts = judge(&command, &["a", "deadly", "b"]).expect("scores");
    assert_eq!(scores(&verdicts), [Some(1.0), None, Some(1.0)]);
    assert_eq!(
        verdicts[1].reason(),
        Some("reward command `/bin/sh` ended twice on this item (exit status: 7): ValueError: deadly")
    );
}

/// One process per request is slow and allowed.
#[test]
fn a_program_that_ends_after_each_reply_is_started_again() {
    let command = shell(r#"read -r line; echo '{"score": 0.5}'"#);
    assert_eq!(scores(&judge(&command, &["a"; 5]).expect("scores")), [Some(0.5); 5]);
    assert_eq!(scores(&judge(&command, &["a"]).expect("scores")), [Some(0.5)]);
}

#[test]
fn a_program_that_never_works_is_an_error() {
    let error = judge(&shell("echo 'first' >&2; echo 'no module named x' >&2; echo >&2; exit 3"), &["a"]);
    assert_eq!(
        error.expect_err("it ends at once").to_string(),
        "reward command `/bin/sh` ended (exit status: 3) instead of answering; last line on stderr: no module named x"
    );
    let command = Command::new(vec!["./no-such-program".to_owned()]).expect("one word");
    let error = judge(&command, &["a"]).expect_err("it does not exist");
    assert_eq!(error.to_string(), "reward command `./no-such-program` could not be started");
    assert!(std::error::Error::source(&error).is_some());
    // A scorer asked for one sample never fails.
    let columns = Map::new();
    let sample = Sample {
        prompt: "",
        completion: "",
        tokens: &[],
        truncated: true,
        max_completion_length: 1,
        columns: &columns,
    };
    assert_eq!(command.verify(&sample).reason(), Some("reward command `./no-such-program` could not be started"));
}

#[test]
fn a_malformed_line_is_named() {
    for (output, line, reason) in [
        (r#"echo '{"score": 1}'; echo; echo 'debug: x'"#, 3, "expected a JSON object"),
        (r#"echo '{"score": "high"}'"#, 1, "expected `score` to be a number or null, found \"high\""),
        (r#"echo '{"scores": 1}'"#, 1, "expected a key `score`"),
        (r#"echo '{"score": 1, "id": 99}'"#, 1, "expected the id of a waiting request, found 99"),
        (r"printf '\377\n'", 1, "expected a JSON object"),
    ] {
        let error = judge(&shell(&format!("read -r line; {output}; sleep 5")), &["a", "b"]).expect_err(output);
        let message = error.to_string();
        assert!(message.starts_with(&format!("reward command `/bin/sh`, output line {line}: {reason}")), "{message}");
    }
}

#[test]
fn a_python_program() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: python3 is not here");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("my scorer.py");
    let program = "import json, sys\nfor line in sys.stdin:\n    r = json.loads(line)\n    \
                   print(json.dumps({'id': r['id'], 'score': len(r['completion']) / 10}), flush=True)\n";
    std::fs::write(&file, program).expect("a writable folder");
    let spec: krystal_verify::RewardSpec =
        format!("command:timeout=5,python3 '{}'", file.display()).parse().expect("a reward");
    let verifier = spec.build().expect("a command");
    let columns = Map::new();
    let samples = ["", "a", "ab"].map(|completion| Sample {
        prompt: "",
        completion,
        tokens: &[],
        truncated: false,
        max_completion_length: 1,
        columns: &columns,
    });
    assert_eq!(scores(&verifier.verify_batch(&samples).expect("scores")), [Some(0.0), Some(0.1), Some(0.2)]);
}
