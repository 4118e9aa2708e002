//! `krystal tune`, over commands that are a line of shell.

use std::fs;
use std::path::Path;

use crate::krystal::{Ran, krystal};

/// A bowl with its lowest point at x = 0.3, y = 1e-3, for `mode = good`.
const SPACE: &str = r#"
goal = "minimize"
command = ["sh", "-c", "echo $0 $1 $2 | awk '{ l = log($2) / log(10) + 3; print \"loss\", ($1 - 0.3) ^ 2 + 0.1 * l * l + ($3 == \"good\" ? 0 : 1) }'", "{x}", "{y}", "{mode}"]
[space.x]
min = 0.0
max = 1.0
[space.y]
min = 1e-5
max = 1e-1
log = true
[space.mode]
choices = ["bad", "good"]
"#;

struct Tuned {
    folder: tempfile::TempDir,
}

impl Tuned {
    fn new(space: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("space.toml"), space).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn tune(&self, run: &str, arguments: &[&str]) -> Ran {
        let (space, run) = (self.path("space.toml"), self.path(run));
        krystal(&[&["tune", &space, "--run-dir", &run, "--json", "--quiet"], arguments].concat())
    }

    /// Trials of a run by number and rung, without how long they took.
    fn trials(&self, run: &str) -> Vec<String> {
        let text = fs::read_to_string(Path::new(&self.path(run)).join("trials.jsonl")).unwrap();
        let mut lines: Vec<String> =
            text.lines().map(|line| line.split(",\"seconds\"").next().unwrap().to_owned()).collect();
        lines.sort();
        lines
    }
}

#[test]
fn a_minimum_is_found_whatever_the_number_of_jobs() {
    let tuned = Tuned::new(SPACE);
    let found = tuned.tune("a", &["--trials", "60", "--jobs", "3"]).json();
    let value = found["best"]["value"].as_f64().unwrap();
    assert!(value < 0.02, "{found}");
    assert_eq!((found["best"]["settings"]["mode"].as_str(), found["trials"].as_u64()), (Some("good"), Some(60)));
    tuned.tune("b", &["--trials", "60", "--jobs", "1"]).json();
    assert_eq!(tuned.trials("a"), tuned.trials("b"));
    let page = fs::read_to_string(tuned.path("a/report.html")).unwrap();
    assert_eq!(page.matches("class=\"pc").count(), 60, "a line for each trial");
}

#[test]
fn a_search_that_was_stopped_goes_on_to_the_same_end() {
    let tuned = Tuned::new(SPACE);
    tuned.tune("whole", &["--trials", "24"]).json();
    tuned.tune("cut", &["--trials", "24"]).json();
    // As after a kill in the middle of a line.
    let ledger = tuned.path("cut/trials.jsonl");
    let text = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, &text[..text.len() / 2]).unwrap();
    let before = fs::metadata(tuned.path("cut/trials/0/stdout")).unwrap().modified().unwrap();
    let resumed = krystal(&["tune", "--resume", &tuned.path("cut"), "--json", "--quiet"]).json();
    assert_eq!(resumed["trials"], 24);
    assert_eq!(tuned.trials("whole"), tuned.trials("cut"));
    assert_eq!(fs::metadata(tuned.path("cut/trials/0/stdout")).unwrap().modified().unwrap(), before, "run again");
}

#[test]
fn the_best_get_more_and_the_others_less() {
    let budget = "[budget]\nmin = 2\nmax = 18\n";
    let text = format!("{}{budget}", SPACE.replace("\"{mode}\"]", "\"{mode}\", \"{budget}\"]"));
    let tuned = Tuned::new(&text);
    let found = tuned.tune("run", &["--trials", "20"]).json();
    assert_eq!(found["best"]["budget"], 18);
    let trials = tuned.trials("run");
    let with = |budget: u64| trials.iter().filter(|line| line.contains(&format!("\"budget\":{budget},"))).count();
    assert_eq!(with(2), 20);
    assert!(with(2) > 2 * with(6) && with(6) > with(18) && with(18) > 0, "{} {} {}", with(2), with(6), with(18));
}

#[test]
fn the_start_is_tried_first() {
    let tuned = Tuned::new(&format!("{SPACE}[[start]]\nx = 0.3\ny = 0.001\nmode = \"good\"\n"));
    let found = tuned.tune("run", &["--trials", "8"]).json();
    assert_eq!(found["best"]["trial"], 0);
    assert!(found["best"]["value"].as_f64().unwrap() < 1e-20, "{found}");
    let settings = &found["best"]["settings"];
    assert_eq!((settings["x"].as_f64(), settings["y"].as_f64()), (Some(0.3), Some(0.001)));
}

#[test]
fn trials_that_fail_are_worst_and_counted() {
    let command = r#"command = ["sh", "-c", "case $0 in 0.[0-4]*) echo no >&2; exit 3;; esac; echo $0", "{x}"]"#;
    let tuned = Tuned::new(&format!("goal = \"minimize\"\n{command}\n[space.x]\nmin = 0.0\nmax = 1.0\n"));
    let found = tuned.tune("run", &["--trials", "30"]).json();
    let best = found["best"]["value"].as_f64().unwrap();
    assert!((0.5..0.56).contains(&best) && found["failed"].as_u64().unwrap() > 0, "{found}");
    assert!(tuned.trials("run").iter().any(|line| line.contains("ended with exit code 3: no")));
}

#[test]
fn what_cannot_be_searched_is_one_line() {
    let always = |command: &str| format!("command = {command}\n[space.x]\nmin = 0.0\nmax = 1.0\n");
    for (space, arguments, code, parts) in [
        (always(r#"["sh", "-c", "exit 1", "{x}"]"#), &[][..], 1, &["none of the first", "exit code 1"][..]),
        (always(r#"["sh", "-c", "echo done", "{x}"]"#), &[], 1, &["`done`"]),
        (always(r#"["./no-such-program", "{x}"]"#), &[], 1, &["./no-such-program", "cannot be started"]),
        (
            always(r#"["sh", "-c", "sleep 30", "{x}"]"#),
            &["--time-limit", "0.1", "--jobs", "20"],
            1,
            &["longer than 0.1 s"],
        ),
        (always(r#"["sh", "{y}"]"#), &[], 2, &["{y}"]),
        ("[space.x]\nmin = 2\nmax = 1\n".to_owned(), &[], 2, &["space.toml", "below `max`"]),
        (SPACE.to_owned(), &["--trials", "0"], 2, &["--trials"]),
        (SPACE.to_owned(), &["--time-limit", "-1"], 2, &["--time-limit"]),
    ] {
        let tuned = Tuned::new(&space);
        let (file, run) = (tuned.path("space.toml"), tuned.path("run"));
        krystal(&[&["tune", &file, "--run-dir", &run, "--quiet"], arguments].concat()).fails(code, parts);
    }
    let tuned = Tuned::new(SPACE);
    tuned.tune("run", &["--trials", "8"]).json();
    let (file, run) = (tuned.path("space.toml"), tuned.path("run"));
    krystal(&["tune", &file, "--run-dir", &run]).fails(2, &["--resume"]);
    // Another search than that of the ledger.
    krystal(&["tune", "--resume", &run, "--quiet", "--seed", "5"]).fails(1, &["trial 0", "not the same"]);
}
