//! What can go wrong, always with the file it went wrong in.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: no such file, no permission, disk full.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was being done, as a verb: `write`, `rename to`, `read`.
        action: &'static str,
        /// The file it was done to.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file does not begin as a checkpoint does.
    #[error("{} is not a krystal checkpoint: expected it to begin with the magic bytes {expected:02x?}, found {found:02x?}", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// The magic.
        expected: [u8; 8],
        /// The first bytes of the file, at most eight.
        found: Vec<u8>,
    },
    /// The file ends before its content does.
    #[error("{} is truncated: expected {expected} bytes, found {found}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes the header promises, or the least any checkpoint has when the header itself is cut.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The content is not what was written.
    #[error("{} is corrupted: expected checksum {expected}, its content has {found}", path.display())]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// The checksum stored at the end of the file, hexadecimal.
        expected: String,
        /// The checksum of the content, hexadecimal.
        found: String,
    },
    /// The file is intact and holds something else.
    #[error("{} holds a checkpoint of kind `{found}`, expected `{expected}`", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The kind asked for.
        expected: String,
        /// The kind stored.
        found: String,
    },
    /// The payload was written by a newer program.
    #[error("{} holds version {found} of `{kind}`, newer than version {expected}, the newest this program reads", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: String,
        /// The version asked for.
        expected: u32,
        /// The version stored.
        found: u32,
    },
    /// The payload was written by an older program, in a layout this call does not read.
    #[error("{} holds version {found} of `{kind}`, expected version {expected}", path.display())]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: String,
        /// The version asked for.
        expected: u32,
        /// The version stored.
        found: u32,
    },
    /// The frame itself is of a newer design.
    #[error("{} uses checkpoint format {found}, expected at most {expected}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The newest format known.
        expected: u32,
        /// The format stored.
        found: u32,
    },
    /// The file is intact, of the right kind and version, and still does not decode into the type asked for.
    #[error("{} does not decode as version {version} of `{kind}`: {reason}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: String,
        /// Its version.
        version: u32,
        /// The decoder's complaint.
        reason: String,
    },
    /// The value cannot be encoded (a sequence of unknown length, for one).
    #[error("could not encode `{kind}` for {}: {reason}", path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// The kind.
        kind: String,
        /// The encoder's complaint.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the file simply is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
