//! Files that are either there whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file whole or not at all, see [`krystal_checkpoint::write_atomically_with`]. `write` fills the file.
pub(crate) fn write(path: &Path, write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> Result<()> {
    let written = krystal_checkpoint::write_atomically_with(path, |file| {
        let mut buffered = BufWriter::with_capacity(1 << 20, file);
        write(&mut buffered)?;
        buffered.flush()
    });
    written.map_err(|error| match error {
        krystal_checkpoint::Error::Io { path, source, .. } => Error::Io { action: "write", path, source },
        other => Error::Io { action: "write", path: path.to_owned(), source: io::Error::other(other) },
    })
}

/// Creates a folder and its parents where missing.
pub(crate) fn create_folder(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|source| Error::Io { action: "create", path: directory.to_owned(), source })
}

/// Writes JSON, indented by two spaces as transformers does, with a final newline.
pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    write(path, |file| writeln!(file, "{value:#}"))
}
