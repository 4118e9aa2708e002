//! The system's MPI, which the feature `mpi` of any crate needs.

use std::env;
use std::process::{Command, Stdio};

use crate::graph::Package;

/// The feature by this name, in whatever crate, needs MPI to build.
pub const FEATURE: &str = "mpi";

/// Why the feature cannot be built here: `None` where it can.
pub fn missing() -> Option<&'static str> {
    let compiles = Command::new("mpicc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !compiles.is_ok_and(|status| status.success()) {
        return Some("there is no mpicc (Debian: openmpi-bin libopenmpi-dev)");
    }
    // Where bindgen finds the library that reads the headers of MPI.
    let libraries = Command::new("/sbin/ldconfig").arg("-p").output().map(|output| output.stdout).unwrap_or_default();
    let found = env::var_os("LIBCLANG_PATH").is_some() || has_libclang(&String::from_utf8_lossy(&libraries));
    (!found).then_some("there is no libclang (Debian: libclang-dev)")
}

fn has_libclang(libraries: &str) -> bool {
    let version = |rest: &str| rest.starts_with("so") || rest.starts_with(|first: char| first.is_ascii_digit());
    libraries
        .lines()
        .any(|line| line.trim_start().strip_prefix("libclang").and_then(|rest| rest.get(1..)).is_some_and(version))
}

/// Whether the crate has tests that run on several ranks.
pub fn is_tested(package: &Package) -> bool {
    package.features.iter().any(|feature| feature == FEATURE) && package.folder.join("tests/mpi.rs").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        assert!(has_libclang("1 libs found\n\tlibclang-14.so.13 (libc6,x86-64) => /usr/lib/libclang-14.so.13\n"));
        assert!(has_libclang("\tlibclang.so.17 (libc6) => /usr/lib64/libclang.so.17"));
        assert!(!has_libclang(
            "\tlibclang-cpp.so.14 (libc6) => /usr/lib/libclang-cpp.so.14\n\tlibc.so.6\n\tlibclang\n"
        ));
    }
}
