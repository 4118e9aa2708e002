//! Conversations to text, by the chat template of a model folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::tokenizer_config::TokenizerConfig;

mod date;
mod python_json;
mod source;
#[cfg(test)]
mod tests;

pub use date::Date;
use source::AdaptedSource;

const NAME: &str = "chat_template";

/// A chat template, rendered as transformers renders it: blocks trimmed on both sides, Python's string methods, `tojson`
/// like Python's `json.dumps`, `raise_exception`, loop controls.
///
/// Known to differ: a float written without `tojson` below 1e-4 or from 1e16 on has all its digits or another exponent.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: AdaptedSource,
    path: PathBuf,
    /// `bos_token` and its like, which templates write out.
    special: Vec<(&'static str, String)>,
}

/// What a template is rendered with beside the messages.
#[derive(Debug, Clone, Default)]
pub struct ChatOptions {
    /// Whether the text ends with what starts the assistant's next message.
    pub add_generation_prompt: bool,
    /// What `strftime_now` gives. Where there is none the function is not defined: templates that ask for it have a date
    /// of their own to fall back to, or fail.
    pub date: Option<Date>,
    /// Tools the assistant may call, as JSON schemas; `None` where there are none.
    pub tools: Option<Vec<Json>>,
    /// Further variables (`enable_thinking`, ...).
    pub variables: Map<String, Json>,
}

/// A message with a role (`system`, `user`, `assistant`, ...) and a text.
pub fn chat_message(role: &str, content: &str) -> Json {
    json!({"role": role, "content": content})
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, or else `chat_template` of `tokenizer_config.json` (a template, or a list of named
    /// ones, of which the one named `default` is taken); `None` where the folder has neither.
    ///
    /// # Errors
    /// When a file cannot be read, when a list has no `default`, and when the template does not compile.
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let config = TokenizerConfig::load(directory)?;
        let path = directory.join("chat_template.jinja");
        match fs::read_to_string(&path) {
            Ok(source) => return Self::new(&source, path, config.special().to_vec()).map(Some),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::Io { action: "read", path, source });
            }
        }
        let invalid = |found: &Json| Error::InvalidField {
            path: config.path.clone(),
            field: NAME.to_owned(),
            expected: "a template, or a list of named ones with one named default".to_owned(),
            found: found.to_string().chars().take(120).collect(),
        };
        let source = match config.object.get(NAME) {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::String(source)) => source,
            Some(value) => value
                .as_array()
                .and_then(|named| named.iter().find(|template| template["name"] == "default"))
                .and_then(|template| template["template"].as_str())
                .ok_or_else(|| invalid(value))?,
        };
        Self::new(source, config.path.clone(), config.special().to_vec()).map(Some)
    }

    /// Compiles a template that is not in a folder; `origin` names it in errors and `special` are the tokens it may write
    /// out by role (`bos_token`, `eos_token`, `pad_token`, `unk_token`).
    ///
    /// # Errors
    /// [`Error::Template`] with the line.
    pub fn new(source: &str, origin: PathBuf, special: Vec<(&'static str, String)>) -> Result<Self> {
        let mut environment = Environment::new();
        let source = AdaptedSource::new(source);
        let failed = |error| template_error(&origin, &source, error);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python_json::to_json);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("the template says: {message}")))
            },
        );
        environment.add_template_owned(NAME, source.text.clone()).map_err(failed)?;
        Ok(Self { environment, source, path: origin, special })
    }

    /// The text of a conversation. Messages are objects with `role`, `content` and whatever else the template reads.
    ///
    /// The text has its special tokens: encode it without adding them.
    ///
    /// # Errors
    /// [`Error::Template`] with the line, where the template fails or refuses the conversation.
    pub fn render(&self, messages: &[Json], options: &ChatOptions) -> Result<String> {
        let mut context: Vec<(String, Value)> = Vec::new();
        let mut put = |name: &str, value: Value| context.push((name.to_owned(), value));
        for (role, token) in &self.special {
            put(role, Value::from(token.as_str()));
        }
        put("messages", messages.iter().map(to_template).collect());
        let tools = options.tools.as_ref();
        put("tools", tools.map_or(Value::from(()), |tools| tools.iter().map(to_template).collect()));
        put("documents", Value::from(()));
        put("add_generation_prompt", Value::from(options.add_generation_prompt));
        if let Some(date) = options.date {
            put("strftime_now", Value::from_function(move |format: &str| date.strftime(format)));
        }
        for (name, value) in &options.variables {
            put(name, to_template(value));
        }
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from_pairs(context)))
            .map_err(|error| template_error(&self.path, &self.source, error))
    }
}

fn template_error(path: &Path, source: &AdaptedSource, error: minijinja::Error) -> Error {
    let detail = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    Error::Template {
        path: path.to_owned(),
        line: source.original_line(error.line().unwrap_or(1)),
        detail,
        source: Box::new(error),
    }
}

fn to_template(value: &Json) -> Value {
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_template).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), to_template(value))))
        }
    }
}
