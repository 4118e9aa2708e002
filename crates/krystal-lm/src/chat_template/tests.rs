use super::*;
use crate::fixture::{MODELS, shared};

type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

fn template(source: &str) -> Result<ChatTemplate> {
    let special = vec![("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())];
    ChatTemplate::new(source, PathBuf::from("chat_template.jinja"), special)
}

fn conversation() -> Vec<Json> {
    vec![
        chat_message("system", " Be brief. "),
        chat_message("user", "Hello"),
        chat_message("assistant", "<think>hm</think>\n\nHi"),
        chat_message("user", "Bye"),
    ]
}

fn render(source: &str) -> Result<String> {
    template(source)?.render(&conversation(), &ChatOptions::default())
}

#[track_caller]
fn check(source: &str, expected: &str) {
    match render(source) {
        Ok(text) => assert_eq!(text, expected),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_fixtures_give_the_recorded_text() -> TestResult {
    let Some(root) = shared("fixtures/hf") else { return Ok(()) };
    let case: Json = serde_json::from_str(&fs::read_to_string(root.join("chat_case.json"))?)?;
    let messages = case["messages"].as_array().ok_or("messages are a list")?;
    let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
    for model in MODELS {
        let template = ChatTemplate::load(&root.join(model))?.ok_or("the fixture has a template")?;
        assert_eq!(template.render(messages, &options)?, case["rendered"]);
        let without = template.render(messages, &ChatOptions::default())?;
        assert_eq!(format!("{without}<|im_start|>assistant\n"), case["rendered"].as_str().unwrap_or_default());
    }
    Ok(())
}

// The rendered texts of constructs.txt are those of transformers 5.23; `tools/check_model_folder.py templates` renders the
// templates with Python and compares.
#[test]
fn the_constructs_of_real_templates_render_as_in_python() -> TestResult {
    let cases: Vec<(String, String)> = include_str!("constructs.txt")
        .split("=== ")
        .skip(1)
        .map(|case| {
            let (_, case) = case.split_once('\n').unwrap_or_default();
            let (source, expected) = case.split_once("\n--- rendered\n").unwrap_or_default();
            (source.to_owned(), expected.strip_suffix('\n').unwrap_or(expected).to_owned())
        })
        .collect();
    assert!(cases.len() > 20);
    for (source, expected) in cases {
        match template(&source)?.render(&conversation(), &construct_options()) {
            Ok(text) => assert_eq!(text, expected, "{source}"),
            Err(error) => panic!("{error}: {source}"),
        }
    }
    Ok(())
}

/// What the constructs are rendered with.
fn construct_options() -> ChatOptions {
    let tools = json!([{"type": "function", "function": {"name": "add", "description": "Adds <a> & 'b' \u{e9}",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"], "x": [1.0, 1e-7, null, true]}}}]);
    ChatOptions {
        add_generation_prompt: true,
        date: Date::new(2024, 7, 6),
        tools: tools.as_array().cloned(),
        variables: [("enable_thinking".to_owned(), json!(false))].into_iter().collect(),
    }
}

#[test]
fn special_tokens_are_known_by_role() {
    check("{{ bos_token }}{{ messages[1].content }}{{ eos_token }}{{ pad_token is defined }}", "<s>Hello</s>False");
}

#[test]
fn what_is_absent_is_none_or_undefined() {
    check("{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }}", "True True False");
    check("{{ strftime_now is defined }} {{ enable_thinking is defined }} [{{ enable_thinking }}]", "False False []");
}

#[test]
fn the_date_is_the_callers() -> TestResult {
    let options = ChatOptions { date: Date::new(2024, 7, 26), ..ChatOptions::default() };
    let source = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}none{% endif %}";
    assert_eq!(template(source)?.render(&[], &options)?, "26 Jul 2024");
    assert_eq!(template(source)?.render(&[], &ChatOptions::default())?, "none");
    let error = template("\n{{ strftime_now('%Y') }}")?.render(&[], &ChatOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "chat_template.jinja: chat template line 2: unknown function: strftime_now is unknown");
    Ok(())
}

#[test]
fn errors_name_their_line() {
    for (source, message) in [
        ("a\n{% if %}", "line 2: syntax error: unexpected end of block"),
        ("a\nb\n{{ messages[0].content.nothing() }}", "line 3: unknown method: string has no method named nothing"),
        (
            "{% for message in messages %}\n{{ raise_exception('roles must alternate') }}\n{% endfor %}",
            "line 2: invalid operation: the template says: roles must alternate",
        ),
        ("{{ 'a' + none }}", "line 1: invalid operation: tried to use + operator on unsupported types string and none"),
        (
            "{{ 'a\\\nb' }}\n{{ 'a' + 1 }}",
            "line 3: invalid operation: tried to use + operator on unsupported types string and number",
        ),
        ("\n\n{{ messages | tojson(width=3) }}", "line 3: too many arguments: unknown keyword argument 'width'"),
    ] {
        let error = render(source).unwrap_err().to_string();
        assert_eq!(error, format!("chat_template.jinja: chat template {message}"));
    }
}

#[test]
fn values_that_hold_themselves_are_refused() {
    let error = render("{% set ns = namespace() %}{% set ns.self = ns %}{{ ns | tojson }}").unwrap_err().to_string();
    assert!(error.ends_with("tojson: values nested deeper than 200"), "{error}");
}

#[test]
fn templates_are_found_where_transformers_finds_them() -> TestResult {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("tokenizer_config.json");
    let load = || ChatTemplate::load(folder.path());
    let text = || -> std::result::Result<String, Box<dyn std::error::Error>> {
        Ok(load()?.ok_or("a template")?.render(&conversation(), &ChatOptions::default())?)
    };
    assert!(load()?.is_none());
    fs::write(&config, r#"{"chat_template": null}"#)?;
    assert!(load()?.is_none());
    fs::write(&config, r#"{"chat_template": "one {{ bos_token }}", "bos_token": {"content": "<b>"}}"#)?;
    assert_eq!(text()?, "one <b>");
    fs::write(
        &config,
        r#"{"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "two"}]}"#,
    )?;
    assert_eq!(text()?, "two");
    fs::write(folder.path().join("chat_template.jinja"), "three")?;
    assert_eq!(text()?, "three");
    fs::remove_file(folder.path().join("chat_template.jinja"))?;
    fs::write(&config, r#"{"chat_template": [{"name": "tool_use", "template": "tools"}]}"#)?;
    let error = load().unwrap_err().to_string();
    assert!(error.contains("field `chat_template`: expected a template, or a list of named ones"), "{error}");
    Ok(())
}

#[test]
fn generation_tags_render_as_their_content() {
    check("a{% generation %}b{%- endgeneration -%} c{% set generation = 1 %}{{ generation }}", "abc1");
    check("{%-  generation\n-%} x {%+ endgeneration %}\ny", "x y");
    assert!(template("{%").is_err());
}
