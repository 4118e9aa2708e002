//! `tokenizer_config.json`, and `special_tokens_map.json` of older folders: which tokens play which role.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::json_fields::{Fields, parse_object};

/// The roles a token can have, as transformers calls them.
pub(crate) const ROLES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// What a folder says about its tokenizer beside `tokenizer.json`. Empty where the folder says nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenizerConfig {
    pub(crate) path: PathBuf,
    /// The whole file, to be written back.
    pub(crate) object: Map<String, Value>,
    /// Tokens by role.
    special: Vec<(&'static str, String)>,
}

impl TokenizerConfig {
    pub(crate) fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer_config.json");
        let object = read_optional(&path)?.unwrap_or_default();
        let old_path = directory.join("special_tokens_map.json");
        let old = read_optional(&old_path)?.unwrap_or_default();
        let mut special = Vec::new();
        let mut newer = Fields::new(&object, &path);
        let mut older = Fields::new(&old, &old_path);
        for role in ROLES {
            // A null in the newer file is an answer too.
            let token = if newer.raw(role).is_some() { token(&mut newer, role)? } else { token(&mut older, role)? };
            special.extend(token.map(|token| (role, token)));
        }
        Ok(Self { path, object, special })
    }

    /// From tokens by role alone.
    pub(crate) fn new(object: Map<String, Value>, special: Vec<(&'static str, String)>) -> Self {
        Self { path: PathBuf::from("tokenizer_config.json"), object, special }
    }

    /// Tokens by role.
    pub(crate) fn special(&self) -> &[(&'static str, String)] {
        &self.special
    }
}

/// A token is a string, or an object whose `content` is the string.
fn token(fields: &mut Fields<'_>, role: &'static str) -> Result<Option<String>> {
    let Some(value) = fields.value(role) else {
        return Ok(None);
    };
    let content = value.as_str().or_else(|| value.get("content").and_then(Value::as_str));
    match content {
        Some(content) => Ok(Some(content.to_owned())),
        None => Err(fields.invalid(role, "a token, an object with its content, or null", value)),
    }
}

fn read_optional(path: &Path) -> Result<Option<Map<String, Value>>> {
    match fs::read_to_string(path) {
        Ok(text) => parse_object(&text, path).map(Some),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { action: "read", path: path.to_owned(), source }),
    }
}
