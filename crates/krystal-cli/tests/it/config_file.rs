use crate::krystal::krystal;
use crate::tiny_model::TinyModel;

#[test]
fn every_flag_is_a_key_and_a_flag_wins() {
    let tiny = TinyModel::new();
    let file = tiny.write(
        "g.toml",
        &format!(
            "model = {:?}\nprompt = \"abc\"\nmax-new-tokens = 4\nignore_eos = true\njson = true\nseed = 3\n",
            tiny.model()
        ),
    );
    let typed = krystal(&[
        "generate",
        "--model",
        &tiny.model(),
        "--prompt",
        "abc",
        "--max-new-tokens",
        "4",
        "--ignore-eos",
        "--seed",
        "3",
        "--json",
    ])
    .json();
    let from_file = krystal(&["generate", "--config", &file]).json();
    assert_eq!(from_file["log_probs"], typed["log_probs"]);
    let longer = krystal(&["--config", &file, "generate", "--max-new-tokens=6"]).json();
    assert_eq!(longer["ids"].as_array().unwrap().len(), 6);
    // A flag also wins over a key that it excludes.
    assert_eq!(krystal(&["generate", "--config", &file, "--ids", "4,5"]).json()["prompt_tokens"], 2);
    // And over a switch.
    let text = krystal(&["generate", "--config", &file, "--json=false"]);
    assert!(text.code == Some(0) && !text.stdout.starts_with('{'), "{text:?}");
}

#[test]
fn wrong_files_are_refused() {
    let tiny = TinyModel::new();
    let check = |text: &str, parts: &[&str]| {
        let file = tiny.write("wrong.toml", text);
        let ran = krystal(&["generate", "--config", &file, "--model", &tiny.model(), "abc"]);
        ran.fails(2, &[&["wrong.toml"], parts].concat());
    };
    check("temprature = 0.5", &["unknown key `temprature`", "nearest is `temperature`"]);
    check("max-new-token = 5", &["`max_new_tokens`"]);
    check("max_new_tokens = 5\nmax-new-tokens = 6", &["given twice"]);
    check("max_new_tokens = 5\n\ntop_k = = 5", &["line 3", "not TOML"]);
    check("max_new_tokens = \"many\"", &["--max-new-tokens", "many"]);
    check("temperature = { high = 1 }", &["`temperature`", "found a table"]);
    check("config = \"other.toml\"", &["unknown key `config`"]);
    let ran = krystal(&["generate", "--config", &tiny.path("missing.toml"), "--model", &tiny.model(), "abc"]);
    ran.fails(2, &["missing.toml", "cannot read"]);
}
