//! What can be wrong with a configuration, an adapter or its files.

use std::io;
use std::path::{Path, PathBuf};

use crate::ContentHash;

/// Why an adapter could not be made, read, written or merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was being done, as a verb: `read`, `create the directory`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file could not be written; the previous one is untouched.
    #[error(transparent)]
    Write(krystal_checkpoint::Error),
    /// The configuration file is not a JSON object.
    #[error("{} is not a JSON object: {reason}", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// The parser's complaint, with line and column.
        reason: String,
    },
    /// A field of a configuration is missing or has a value it cannot have.
    #[error("`{field}` of the LoRA configuration: expected {expected}, found {found}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it is, as JSON; `nothing` where it is missing.
        found: String,
    },
    /// A configuration that was read from a file is wrong.
    #[error("{}: {inner}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with what it says.
        inner: Box<Error>,
    },
    /// An adapter file asks for something that plain LoRA on linear layers is not.
    #[error("{}: `{field}` is {found}, supported is {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value, as JSON, shortened.
        found: String,
        /// What would be accepted.
        supported: String,
    },
    /// A regular expression of a configuration does not compile, or backtracks without end.
    #[error("`{field}` has the regular expression `{pattern}`, which cannot be used: {reason}")]
    Pattern {
        /// The field.
        field: &'static str,
        /// The expression.
        pattern: String,
        /// Why not.
        reason: String,
    },
    /// A target names no module of the model.
    #[error("target module `{target}` is not in the model, which has: {}", available.join(", "))]
    UnknownTarget {
        /// The target, as in the configuration.
        target: String,
        /// Last components of the names of the modules there are.
        available: Vec<String>,
    },
    /// The configuration targets nothing.
    #[error("no module of the model is targeted by {targets}; it has: {}", available.join(", "))]
    NothingTargeted {
        /// The targets, as in the configuration.
        targets: String,
        /// Last components of the names of the modules there are.
        available: Vec<String>,
    },
    /// The tensor file is truncated or not safetensors.
    #[error("{} is not a whole safetensors file: {reason}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// The parser's complaint.
        reason: String,
    },
    /// A tensor that is not a LoRA factor of a linear layer.
    #[error("{}: tensor `{tensor}` is {what}; expected only base_model.model.<module>.lora_A.weight and lora_B.weight", path.display())]
    UnsupportedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What it seems to be.
        what: &'static str,
    },
    /// One factor without the other.
    #[error("{}: tensor `{tensor}` has no partner `{missing}`", path.display())]
    UnpairedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor that is there.
        tensor: String,
        /// The tensor that is not.
        missing: String,
    },
    /// A tensor for a module that the model lacks or the configuration does not target.
    #[error("{}: tensor `{tensor}` belongs to no {expected} module", path.display())]
    StrayTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What its module should have been: `known` to the model, or `targeted`.
        expected: &'static str,
    },
    /// A targeted module without tensors.
    #[error("{}: expected tensor `{tensor}` of a targeted module, found none", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of another shape than model and configuration ask for.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// `[rank, d_in]` or `[d_out, rank]`.
        expected: [usize; 2],
        /// The shape stored.
        found: Vec<usize>,
    },
    /// A tensor of a type that is not a float of 16 or 32 bits.
    #[error("{}: tensor `{tensor}` has type {found}, expected F32, F16 or BF16", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type stored.
        found: String,
    },
    /// A module disagrees with its own sizes or with the configuration it is to be saved with.
    #[error("module `{module}`: expected {what} {expected}, found {found}")]
    Module {
        /// The module.
        module: String,
        /// Which property: `rank`, `scale`, `values in A`, ...
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A layer of a hierarchy does not fit the hierarchy.
    #[error("{layer}: expected {expected} {what}, found {found}")]
    Layer {
        /// Which, in words: `the agent layer of agent 7`.
        layer: String,
        /// What does not fit: `modules`, ...
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A file of a saved hierarchy is not the one that was saved.
    #[error("{} is not the file that was saved: expected BLAKE3 {expected}, its content has {found}", path.display())]
    Tampered {
        /// The file.
        path: PathBuf,
        /// The digest that was recorded.
        expected: ContentHash,
        /// The digest of what is there.
        found: ContentHash,
    },
    /// A saved hierarchy whose description cannot be followed.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// The folder to save into holds something else, which is not overwritten.
    #[error("{} is not replaced by a hierarchy: expected nothing or a saved hierarchy there, found {found}", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Numbers that are not finite were about to be published.
    #[error("{what} has a number that is not finite; it is not published")]
    NotFinite {
        /// Where, in words.
        what: String,
    },
    /// A learning rate that is none.
    #[error("a learning rate is a finite number of at least 0, found {found}")]
    LearningRate {
        /// What was asked for.
        found: f64,
    },
    /// An agent that the hierarchy does not have.
    #[error("agent {agent} is not known; there are {known} agents")]
    UnknownAgent {
        /// Its number.
        agent: u64,
        /// How many there are.
        known: usize,
    },
    /// An entry of a saved state is missing or has a value it cannot have.
    #[error("entry `{entry}` of the saved state: expected {expected}, found {found}")]
    State {
        /// The entry's name.
        entry: String,
        /// What it may be.
        expected: String,
        /// What it is; `nothing` where it is missing.
        found: String,
    },
    /// Weights to merge into were not given for a module of the adapter.
    #[error("no weight was given for module `{module}` of the adapter")]
    MissingWeight {
        /// The module.
        module: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn field(field: &'static str, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Field { field, expected: expected.into(), found: found.to_string() }
    }

    /// Adds the file to an error about a configuration.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::InFile { path: path.to_owned(), inner: Box::new(self) }
    }

    pub(crate) fn module(module: &str, what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Module { module: module.to_owned(), what, expected: expected.to_string(), found: found.to_string() }
    }

    /// The error of a saved state, for implementers of [`Resonance`](crate::Resonance) and other parts that are restored.
    pub fn state(entry: &str, expected: impl ToString, found: impl ToString) -> Self {
        Self::State { entry: entry.to_owned(), expected: expected.to_string(), found: found.to_string() }
    }
}
