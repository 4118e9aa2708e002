//! A file seen as bytes without reading it into memory.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file. Pages are read when first looked at and shared between processes.
///
/// The file must not be shortened while it is mapped: the system then ends the process that looks at the lost pages.
/// Replacing a file by renaming another to its name, as everything in Krystal does, is safe.
#[derive(Debug)]
pub(crate) struct MappedFile(Option<Mmap>);

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // Some systems refuse to map nothing.
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Self(None));
        }
        map(&file).map(|map| Self(Some(map))).map_err(failed)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[allow(unsafe_code, reason = "mapping a file is unsafe because others may write to it; see the comment")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this type, which hands out nothing but shared byte slices that live as
    // long as the map. Every bit pattern is a valid byte (and a valid f32, f16 or bf16 where callers look at it so), so
    // a writer elsewhere can at worst change numbers. That writers do not do so is the caller's contract, stated above.
    unsafe { Mmap::map(file) }
}
