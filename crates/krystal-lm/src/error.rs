//! What can go wrong with a model folder.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a model and its folder. The cause, where there is one, is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A snapshot of a hierarchy has no layers of this agent.
    #[error("agent {agent} has no layers in the snapshot, which has {known} agents")]
    UnknownAgent {
        /// The agent.
        agent: u64,
        /// How many there are.
        known: usize,
    },
    /// A snapshot of a hierarchy has a module that the model lacks.
    #[error("the snapshot has a module `{module}` from {d_in} to {d_out}, which the model has not")]
    ForeignModule {
        /// The module.
        module: String,
        /// Its inputs.
        d_in: usize,
        /// Its outputs.
        d_out: usize,
    },
    /// A text that cannot be continued.
    #[error("expected at least one token, each below {vocab_size}, found {length} tokens{}", highest.map_or(String::new(), |token| format!(" up to {token}")))]
    Context {
        /// Tokens of the text.
        length: usize,
        /// The vocabulary's size.
        vocab_size: usize,
        /// The highest token.
        highest: Option<u32>,
    },
    /// A file or folder could not be read or written.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// What was tried: `read`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that a model folder must have is not there.
    #[error("{}: missing; {hint}", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
        /// What the file is for, or what was found instead.
        hint: &'static str,
    },
    /// A file that should be JSON is not, or is not an object.
    #[error("{}: not a JSON object", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where the text stops being JSON.
        source: serde_json::Error,
    },
    /// A field that a file must have is not there.
    #[error("{}: field `{field}` is missing", path.display())]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The field, with its parents.
        field: String,
    },
    /// A field has a value of the wrong kind, or two fields contradict each other.
    #[error("{}: field `{field}`: expected {expected}, found {found}", path.display())]
    InvalidField {
        /// The file.
        path: PathBuf,
        /// The field, with its parents.
        field: String,
        /// What would be right.
        expected: String,
        /// The value, as JSON.
        found: String,
    },
    /// A field asks for something that this crate does not compute.
    #[error("{}: field `{field}` = {value} is not supported (supported: {supported})", path.display())]
    UnsupportedField {
        /// The file.
        path: PathBuf,
        /// The field, with its parents.
        field: String,
        /// The value, as JSON.
        value: String,
        /// What is supported.
        supported: String,
    },
    /// A field of which this crate does not know whether it changes the model.
    #[error("{}: unknown field `{field}` = {value}: it might change what the model computes", path.display())]
    UnknownField {
        /// The file.
        path: PathBuf,
        /// The field, with its parents.
        field: String,
        /// The value, as JSON.
        value: String,
    },
    /// A `.safetensors` file is damaged as a whole.
    #[error("{}: not a valid safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        reason: String,
    },
    /// One tensor of a `.safetensors` file is damaged or of another kind than expected.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {found}", path.display())]
    Tensor {
        /// The file, or the folder where no single file is at fault.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What would be right.
        expected: String,
        /// What came.
        found: String,
    },
    /// A tensor that the model needs is not there.
    #[error("{}: tensor `{tensor}` is missing", path.display())]
    MissingTensor {
        /// The folder, the index or the shard.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// Tensors are there that the model would not use, or that the index of a sharded model does not list.
    #[error("{}: unexpected tensors: {}", path.display(), first_of(tensors))]
    UnexpectedTensors {
        /// The folder, or the file.
        path: PathBuf,
        /// Their names, sorted.
        tensors: Vec<String>,
    },
    /// `tokenizer.json` is not a tokenizer, or the tokenizer failed on a text.
    #[error("{}: cannot {action}", path.display())]
    Tokenizer {
        /// `tokenizer.json`.
        path: PathBuf,
        /// What was tried: `read the tokenizer`, `encode`, ...
        action: &'static str,
        /// What the `tokenizers` crate said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A token is named that the vocabulary lacks.
    #[error("{}: `{role}` is {token:?}, which is not in the vocabulary", path.display())]
    UnknownToken {
        /// The file that names the token.
        path: PathBuf,
        /// `eos_token`, `alphabet`, ...
        role: &'static str,
        /// The token.
        token: String,
    },
    /// A character tokenizer cannot be made of these characters and special tokens.
    #[error("character tokenizer: {token:?} {problem}")]
    InvalidAlphabet {
        /// The character or special token.
        token: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The chat template does not compile, fails, or refuses the conversation.
    #[error("{}: chat template line {line}: {detail}", path.display())]
    Template {
        /// The file that holds the template.
        path: PathBuf,
        /// Line within the template, from 1.
        line: usize,
        /// What is wrong.
        detail: String,
        /// What the template engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// At most eight names, and how many more there are.
fn first_of(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
