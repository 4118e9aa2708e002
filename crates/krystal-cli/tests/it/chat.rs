use crate::krystal::krystal_with;
use crate::tiny_model::TinyModel;

#[test]
fn each_line_is_a_message() {
    let tiny = TinyModel::new();
    let arguments = ["chat", "--model", &tiny.model(), "--max-new-tokens", "4", "--ignore-eos"];
    let json = [&arguments[..], &["--json"]].concat();
    let answer = krystal_with("hello\nand now\n", &json).json();
    let messages = answer["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert_eq!(messages[2]["content"], "and now");
    // After a reset nothing is left of what was said.
    let again = krystal_with("other\n/reset\n/help\n\nhello\nand now\n/quit\nnever\n", &json).json();
    assert_eq!(again["messages"], answer["messages"]);
    // For people: the replies, one after the other.
    let text = krystal_with("hello\nand now\n", &arguments).stdout;
    let replies =
        format!("{}\n{}\n", messages[1]["content"].as_str().unwrap(), messages[3]["content"].as_str().unwrap());
    assert_eq!(text, replies);
    let told = krystal_with("hello\n", &[&json[..], &["--system", "be kind"]].concat()).json();
    assert_eq!(told["messages"][0], serde_json::json!({"role": "system", "content": "be kind"}));
}

#[test]
fn a_conversation_that_is_too_long_is_an_error() {
    let tiny = TinyModel::new();
    let line = format!("{}\n", "hello ".repeat(20));
    krystal_with(&line, &["chat", "--model", &tiny.model()]).fails(1, &["126 tokens", "96"]);
}

#[test]
fn a_model_without_a_template_cannot_chat() {
    let tiny = TinyModel::new();
    std::fs::remove_file(tiny.folder.path().join("model/chat_template.jinja")).unwrap();
    krystal_with("hello\n", &["chat", "--model", &tiny.model()]).fails(1, &["no chat template"]);
}
