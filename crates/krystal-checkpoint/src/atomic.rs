//! Replacing a file in one step.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// Makes `bytes` the content of `path`, entirely or not at all.
///
/// Writes a temporary file in the same directory, syncs it, renames it over `path` and syncs the directory. Whoever opens
/// `path` meanwhile sees the old content or the new, never a mixture, and after a crash so does the next run. The directory
/// must exist. A symbolic link at `path` is replaced, not followed.
///
/// # Errors
/// [`Error::Io`]. The previous content of `path` is then untouched and the temporary file removed; only when the last step,
/// syncing the directory, is what failed has the new content already replaced the old.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomically_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomically`] for content that `write` produces, such as files too large to hold in memory twice.
///
/// # Errors
/// As [`write_atomically`]; what `write` returns is the cause.
pub fn write_atomically_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Error> {
    let temporary = Temporary::beside(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary.path)
        .map_err(|source| Error::io("create a temporary file for", path, source))?;
    write(&mut file).map_err(|source| Error::io("write", path, source))?;
    // Without this the rename may reach the disk before the content does, and a power cut leaves an empty file.
    file.sync_all().map_err(|source| Error::io("write", path, source))?;
    drop(file);
    fs::rename(&temporary.path, path).map_err(|source| Error::io("replace", path, source))?;
    temporary.renamed();
    sync_directory(path)
}

/// A file that is deleted unless it was renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(path: &Path) -> Result<Self, Error> {
        // Unique among the processes of this machine and the threads of this process: two writers of one target must not
        // share a temporary file, or one would publish the other's half.
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let Some(name) = path.file_name() else {
            return Err(Error::io(
                "write",
                path,
                io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"),
            ));
        };
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        Ok(Self { path: path.with_file_name(temporary) })
    }

    fn renamed(mut self) {
        self.path.clear();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Nothing useful can be done when this fails too: the error that brought us here is the one to report.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Makes the rename itself durable. Only Unix lets a directory be opened and synced.
#[cfg(unix)]
fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| Error::io("sync the directory of", path, source))
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn content_is_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write_atomically(&path, b"first").unwrap();
        write_atomically(&path, b"second, longer").unwrap();
        write_atomically(&path, b"3").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3");
        assert_eq!(names(directory.path()), ["state"]);
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_the_previous_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write_atomically(&path, b"previous").unwrap();
        let error = write_atomically_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull), "{error}");
        assert!(error.to_string().contains("state"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"previous");
        assert_eq!(names(directory.path()), ["state"]);
    }

    #[test]
    fn a_target_that_cannot_be_replaced_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"kept").unwrap();
        let error = write_atomically(&path, b"new").unwrap_err();
        assert!(matches!(error, Error::Io { action: "replace", .. }), "{error}");
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(names(directory.path()), ["state"]);
    }

    #[test]
    fn a_missing_directory_and_a_path_without_a_name_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write_atomically(&directory.path().join("missing").join("state"), b"new").unwrap_err().is_not_found());
        assert!(matches!(write_atomically(Path::new("/"), b"new"), Err(Error::Io { .. })));
    }

    #[test]
    fn concurrent_writers_of_one_target_leave_one_whole_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..10 {
                        write_atomically(path, &[writer; 5000]).unwrap();
                    }
                });
            }
        });
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len(), 5000);
        assert!(content.iter().all(|byte| *byte == content[0]));
        assert_eq!(names(directory.path()), ["state"]);
    }
}
