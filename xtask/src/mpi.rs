//! The system's MPI, which the feature `mpi` of any crate needs.

use std::process::{Command, Stdio};

use crate::graph::Package;
use crate::system;

/// The feature by this name, in whatever crate, needs MPI to build.
pub const FEATURE: &str = "mpi";

/// Why the feature cannot be built here: `None` where it can.
pub fn missing() -> Option<&'static str> {
    let compiles = Command::new("mpicc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !compiles.is_ok_and(|status| status.success()) {
        return Some("there is no mpicc (Debian: openmpi-bin libopenmpi-dev)");
    }
    system::libclang_missing()
}

/// Whether the crate has tests that run on several ranks.
pub fn is_tested(package: &Package) -> bool {
    package.features.iter().any(|feature| feature == FEATURE) && package.folder.join("tests/mpi.rs").is_file()
}
