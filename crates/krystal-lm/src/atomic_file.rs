//! Files that are either there whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file beside its place, syncs it and moves it there, so that a crash or a full disk leaves what was there
/// before. `write` fills the file.
pub(crate) fn write(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)?;
        // The move itself lasts only once the folder is on disk. Not every system can sync a folder.
        if let Some(Ok(folder)) = path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::Io { action: "write", path: path.to_owned(), source }
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
