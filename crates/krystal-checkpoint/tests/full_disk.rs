//! Saving on a disk that has no room left.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use krystal_checkpoint::{Error, load, save};

/// A file system of a few pages, unmounted at the end. Mounting takes root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "krystal-test"])
            .arg(directory.path())
            .output()
            .ok()?;
        output.status.success().then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.path()).output());
    }
}

#[test]
fn the_previous_checkpoint_survives_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small tmpfs is not allowed here");
        return;
    };
    let path = disk.path().join("state");
    let small = vec![0.5_f32; 1000];
    save(&path, "floats", 1, &small).unwrap();
    let error = save(&path, "floats", 1, &vec![1.5_f32; 100_000]).unwrap_err();
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull), "{error}");
    assert_eq!(load::<Vec<f32>>(&path, "floats", 1).unwrap(), small);
    let names: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state"]);
    // There is room again for what fits: nothing of the failed attempt is left.
    save(&path, "floats", 1, &vec![2.5_f32; 1000]).unwrap();
}
