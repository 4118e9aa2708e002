//! Replacing a whole folder in one step.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// A folder that is being written beside the one it will replace. Removed again unless it is switched in.
pub(crate) struct NewFolder {
    target: PathBuf,
    path: PathBuf,
}

impl NewFolder {
    /// Begins a folder for `target`, whose parent is created if it is missing.
    pub(crate) fn beside(target: &Path) -> Result<Self, Error> {
        let path = sibling(target, "new")?;
        // What a process that was killed left behind.
        remove(&path)?;
        fs::create_dir_all(&path).map_err(|source| Error::io("create the directory", &path, source))?;
        Ok(Self { target: target.to_owned(), path })
    }

    /// Writes a file, `name` relative to the folder with `/` between components.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| Error::io("create the directory", folder, source))?;
        }
        // Synced: the switch must not reach the disk before what it switches to.
        let write = || File::create(&path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        write().map_err(|source| Error::io("write", &path, source))
    }

    /// Puts the folder in the target's place and removes what was there.
    ///
    /// On Linux one exchange: at every instant the target is the old folder or the new one, whole. Where the file system
    /// cannot exchange, the old one is moved aside first; [`readable`] finds it there.
    pub(crate) fn switch(self) -> Result<(), Error> {
        sync_folders(&self.path).map_err(|source| Error::io("sync the directory", &self.path, source))?;
        let failed = |source| Error::io("replace", &self.target, source);
        let aside = sibling(&self.target, "old")?;
        if !self.target.exists() {
            fs::rename(&self.path, &self.target).map_err(failed)?;
        } else if exchange(&self.path, &self.target).is_err() {
            remove(&aside)?;
            fs::rename(&self.target, &aside).map_err(failed)?;
            fs::rename(&self.path, &self.target).map_err(failed)?;
        }
        if let Some(parent) = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync(parent).map_err(|source| Error::io("sync the directory", parent, source))?;
        }
        remove(&aside)
        // Dropping `self` removes what the exchange brought here.
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Nothing useful can be done when this fails too; the next one begins by trying it again.
        drop(remove(&self.path));
    }
}

/// The folder to read `target` from: itself, or what a switch that was interrupted moved aside.
pub(crate) fn readable(target: &Path) -> PathBuf {
    match sibling(target, "old") {
        Ok(aside) if !target.exists() && aside.exists() => aside,
        _ => target.to_owned(),
    }
}

fn sibling(target: &Path, which: &str) -> Result<PathBuf, Error> {
    let Some(name) = target.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path names no folder");
        return Err(Error::io("write", target, source));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(which);
    Ok(target.with_file_name(hidden))
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", folder, source)),
        _ => Ok(()),
    }
}

fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync(folder)
}

/// Makes the names in a folder durable. Only Unix lets a folder be opened and synced.
#[cfg(unix)]
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_one: &Path, _other: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_replaced_whole_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("deep/er/state");
        for (file, content) in [("a/x", "first"), ("b", "second"), ("b", "third")] {
            let folder = NewFolder::beside(&target).unwrap();
            folder.write(file, content.as_bytes()).unwrap();
            folder.switch().unwrap();
            assert_eq!(fs::read_to_string(target.join(file)).unwrap(), content);
        }
        assert_eq!(names(&target), ["b"]);
        assert_eq!(names(target.parent().unwrap()), ["state"]);
    }

    #[test]
    fn a_folder_that_is_given_up_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("state");
        let folder = NewFolder::beside(&target).unwrap();
        folder.write("a", b"first").unwrap();
        folder.switch().unwrap();
        let folder = NewFolder::beside(&target).unwrap();
        folder.write("a", b"second").unwrap();
        fs::create_dir(folder.path.join("b")).unwrap();
        let error = folder.write("b", b"cannot be").unwrap_err();
        assert!(matches!(error, Error::Io { action: "write", .. }), "{error}");
        drop(folder);
        assert_eq!(fs::read(target.join("a")).unwrap(), b"first");
        assert_eq!(names(directory.path()), ["state"]);
    }

    #[test]
    fn what_was_moved_aside_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("state");
        assert_eq!(readable(&target), target);
        let aside = directory.path().join(".state.old");
        fs::create_dir(&aside).unwrap();
        assert_eq!(readable(&target), aside);
        fs::create_dir(&target).unwrap();
        assert_eq!(readable(&target), target);
    }
}
