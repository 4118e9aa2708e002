//! Text to tokens and back, by `tokenizer.json`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, ModelWrapper};

use crate::atomic_file;
use crate::error::{Error, Result};
use crate::tokenizer_config::TokenizerConfig;

mod stream;
#[cfg(test)]
mod tests;

pub use stream::TokenStream;

/// The files of a model folder that belong to its tokenizer.
const TOKENIZER_FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
];

/// A tokenizer as `transformers` would load it from the same folder.
///
/// What would make it random or dependent on other texts is off: BPE dropout, truncation and padding of `tokenizer.json`.
/// `clean_up_tokenization_spaces` is not applied: decoding gives what the tokens say.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    config: TokenizerConfig,
    vocab_size: usize,
    /// By role, in the order of `config.special()`.
    roles: Vec<(&'static str, u32)>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and the roles of tokens from `tokenizer_config.json` and `special_tokens_map.json` where
    /// they are there.
    ///
    /// # Errors
    /// When `tokenizer.json` is missing or not a tokenizer, and when a role is given to a token that it lacks.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                let hint = if directory.join("tokenizer.model").exists() {
                    "only a SentencePiece tokenizer.model was found, which must be converted first"
                } else {
                    "a model folder needs its tokenizer"
                };
                Error::MissingFile { path: path.clone(), hint }
            }
            _ => Error::Io { action: "read", path: path.clone(), source },
        })?;
        Self::new(&bytes, path, TokenizerConfig::load(directory)?)
    }

    /// A tokenizer with one token per character, for small models trained from scratch: `<pad>` is 0, `<eos>` 1 and
    /// `<unk>` 2; then come `specials`, further special tokens; then the characters of `alphabet` in order. Any other
    /// character becomes `<unk>`.
    ///
    /// Such a model should not be of `model_type` `qwen2` if transformers 5 is to load it by `AutoTokenizer`, which gives
    /// qwen2 folders Qwen's own pre-tokenizer whatever their `tokenizer.json` says.
    ///
    /// # Errors
    /// [`Error::InvalidAlphabet`] where two tokens are the same or a special token is empty.
    pub fn characters(alphabet: &str, specials: &[&str]) -> Result<Self> {
        const PAD_EOS_UNK: [&str; 3] = ["<pad>", "<eos>", "<unk>"];
        let mut vocabulary = Map::new();
        let mut added = Vec::new();
        let put = |vocabulary: &mut Map<String, Value>, token: &str| {
            let problem = if token.is_empty() {
                "is not a token"
            } else if vocabulary.contains_key(token) {
                "is given twice"
            } else {
                let id = vocabulary.len();
                vocabulary.insert(token.to_owned(), json!(id));
                return Ok(id);
            };
            Err(Error::InvalidAlphabet { token: token.to_owned(), problem })
        };
        for token in PAD_EOS_UNK.iter().chain(specials) {
            let id = put(&mut vocabulary, token)?;
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
        for character in alphabet.chars() {
            put(&mut vocabulary, character.encode_utf8(&mut [0; 4]))?;
        }
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            // One piece per character, line ends included.
            "pre_tokenizer": {
                "type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false,
            },
            "post_processor": null,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        });
        let roles = [("pad_token", "<pad>"), ("eos_token", "<eos>"), ("unk_token", "<unk>")];
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        for (role, token) in roles {
            config.insert(role.to_owned(), json!(token));
        }
        if !specials.is_empty() {
            config.insert("additional_special_tokens".to_owned(), json!(specials));
        }
        config.insert("padding_side".to_owned(), json!("left"));
        config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        let special = roles.map(|(role, token)| (role, token.to_owned())).to_vec();
        let text = tokenizer.to_string();
        Self::new(text.as_bytes(), PathBuf::from("tokenizer.json"), TokenizerConfig::new(config, special))
    }

    fn new(bytes: &[u8], path: PathBuf, config: TokenizerConfig) -> Result<Self> {
        let failed = |source| Error::Tokenizer { path: path.clone(), action: "read the tokenizer", source };
        // tokenizers 0.23 panics where a decoder or a normalizer is not what it should be, so damage is looked for first,
        // and a file that is JSON but no tokenizer must not end the process either.
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        let mut inner = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes))
            .unwrap_or_else(|_| Err("its normalizer or decoder is not a known one".into()))
            .map_err(failed)?;
        inner.with_truncation(None).map_err(failed)?;
        inner.with_padding(None);
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some()
        {
            let mut model = model.clone();
            model.dropout = None;
            inner.with_model(model);
        }
        let mut roles = Vec::new();
        for (role, token) in config.special() {
            let Some(id) = inner.token_to_id(token) else {
                return Err(Error::UnknownToken { path: config.path.clone(), role, token: token.clone() });
            };
            // As transformers: a token with a role is special even where tokenizer.json does not list it as such.
            if !inner.get_added_vocabulary().is_special_token(token) {
                let token = AddedToken::from(token.clone(), true).normalized(false);
                inner.add_special_tokens([token]).map_err(failed)?;
            }
            roles.push((*role, id));
        }
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        Ok(Self { inner, path, config, vocab_size, roles })
    }

    /// The tokens of a text. `add_special` adds what the post-processor adds (a beginning-of-sequence token, say), as
    /// transformers does unless told otherwise; a rendered chat template has its special tokens already.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], where the vocabulary has no token for a part of the text and none for unknown parts.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        match self.inner.encode_fast(text, add_special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(source) => Err(Error::Tokenizer { path: self.path.clone(), action: "encode", source }),
        }
    }

    /// The text of tokens; `skip_special` leaves special tokens out. Ids that the vocabulary lacks (the padding of an
    /// embedding, say) have no text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], where the decoder of `tokenizer.json` fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|source| Error::Tokenizer {
            path: self.path.clone(),
            action: "decode",
            source,
        })
    }

    /// Decodes a sequence token by token, for showing it while it is generated.
    pub fn stream(&self, skip_special: bool) -> TokenStream<'_> {
        TokenStream::new(self, skip_special)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The token that starts a sequence, where there is one.
    pub fn bos(&self) -> Option<u32> {
        self.role("bos_token")
    }

    /// The token that ends a sequence, where there is one. A model may stop at more: see
    /// [`ModelConfig::eos_token_ids`](crate::config::ModelConfig::eos_token_ids).
    pub fn eos(&self) -> Option<u32> {
        self.role("eos_token")
    }

    /// The padding token, where there is one.
    pub fn pad(&self) -> Option<u32> {
        self.role("pad_token")
    }

    /// The token for what the vocabulary lacks, where there is one.
    pub fn unk(&self) -> Option<u32> {
        self.role("unk_token")
    }

    fn role(&self, role: &str) -> Option<u32> {
        self.roles.iter().find(|(name, _)| *name == role).map(|(_, id)| *id)
    }

    /// Whether an id is that of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// One more than the greatest id: the rows an embedding must have at least.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, each whole or not at all, so that transformers loads them. The
    /// folder is made where missing. A template in `chat_template.jinja` is not part of the tokenizer:
    /// [`copy_tokenizer_files`] copies that too.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join("tokenizer.json");
        let text = self.inner.to_string(true).map_err(|source| Error::Tokenizer {
            path: path.clone(),
            action: "write the tokenizer",
            source,
        })?;
        atomic_file::create_folder(directory)?;
        atomic_file::write(&path, |file| io::Write::write_all(file, text.as_bytes()))?;
        let mut config = self.config.object.clone();
        for (role, token) in self.config.special() {
            config.entry(*role).or_insert_with(|| json!(token));
        }
        atomic_file::write_json(&directory.join("tokenizer_config.json"), &Value::Object(config))
    }
}

/// Copies the tokenizer of one model folder to another, byte by byte: `tokenizer.json` and whichever are there of its
/// companions, chat template included. Returns the names of the files copied.
///
/// # Errors
/// When `from` has no `tokenizer.json`, and when reading or writing fails.
pub fn copy_tokenizer_files(from: &Path, to: &Path) -> Result<BTreeSet<String>> {
    let mut copied = BTreeSet::new();
    for name in TOKENIZER_FILES {
        let path = from.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                atomic_file::create_folder(to)?;
                atomic_file::write(&to.join(name), |file| io::Write::write_all(file, &bytes))?;
                copied.insert(name.to_owned());
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                if name == TOKENIZER_FILES[0] {
                    return Err(Error::MissingFile { path, hint: "there is no tokenizer to copy" });
                }
            }
            Err(source) => {
                return Err(Error::Io { action: "read", path, source });
            }
        }
    }
    Ok(copied)
}
