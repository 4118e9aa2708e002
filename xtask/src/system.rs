//! Features that need something of the system, and whether it is here.

use std::env;
use std::process::Command;

use crate::mpi;

/// The feature of the benches that measures optimisers on COCO's functions.
pub const BBOB: &str = "bbob";

/// Why a feature of any crate cannot be built here: `None` where it can.
pub fn missing(feature: &str) -> Option<&'static str> {
    match feature {
        mpi::FEATURE => mpi::missing(),
        BBOB => libclang_missing(),
        _ => None,
    }
}

/// Whether a feature needs something that not every system has.
pub fn is_particular(feature: &str) -> bool {
    [mpi::FEATURE, BBOB].contains(&feature)
}

/// Why bindgen could not read the headers of C: `None` where it can.
pub fn libclang_missing() -> Option<&'static str> {
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
