//! The dependency graph, as Cargo tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use crate::command::{cargo, output};

/// A crate of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Source files that are roots of its libraries and binaries.
    pub roots: Vec<PathBuf>,
    /// Names of its binaries.
    pub binaries: Vec<String>,
    /// Names of its features, `default` left out.
    pub features: Vec<String>,
    /// Whether it may be published.
    pub published: bool,
    /// What it depends on to build and run, optional or not: names, ours and others'.
    pub dependencies: BTreeSet<String>,
    /// What it depends on when it is tested.
    pub dev_dependencies: BTreeSet<String>,
}

/// Every crate of the workspace by name.
///
/// # Errors
/// If Cargo fails or says what we do not understand.
pub fn packages() -> anyhow::Result<BTreeMap<String, Package>> {
    let text = output(&mut cargo(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata did not write JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    packages.iter().map(|package| read(package).map(|package| (package.name.clone(), package))).collect()
}

fn read(package: &Value) -> anyhow::Result<Package> {
    let name = package["name"].as_str().context("a package has no name")?.to_owned();
    let manifest = PathBuf::from(package["manifest_path"].as_str().context("a package has no manifest")?);
    let mut roots = Vec::new();
    let mut binaries = Vec::new();
    for target in package["targets"].as_array().into_iter().flatten() {
        let is = |kind| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
        if is("lib") || is("bin") {
            roots.extend(target["src_path"].as_str().map(PathBuf::from));
        }
        if is("bin") {
            binaries.extend(target["name"].as_str().map(str::to_owned));
        }
    }
    let dependencies = |of_tests: bool| {
        package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| (dependency["kind"] == "dev") == of_tests)
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect()
    };
    let features = package["features"].as_object().into_iter().flat_map(|features| features.keys());
    Ok(Package {
        folder: manifest.parent().context("a manifest has no folder")?.to_owned(),
        roots,
        binaries,
        features: features.filter(|feature| *feature != "default").cloned().collect(),
        published: package["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
        dependencies: dependencies(false),
        dev_dependencies: dependencies(true),
        name,
    })
}

/// Names of all packages, ours and others', that the crate called `name` needs to run, itself included, not looking behind
/// those in `pruned`, which need not be among them.
///
/// # Errors
/// If Cargo fails.
pub fn closure(name: &str, features: &[&str], pruned: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let tree = |pruned: &[&str]| -> anyhow::Result<BTreeSet<String>> {
        let mut command =
            cargo(["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        if !features.is_empty() {
            command.args(["--features", &features.join(",")]);
        }
        command.args(pruned.iter().flat_map(|pruned| ["--prune", pruned]));
        let text = output(&mut command)?;
        Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    };
    let all = tree(&[])?;
    // Cargo refuses to prune what is not there.
    let pruned: Vec<&str> = pruned.iter().copied().filter(|pruned| all.contains(*pruned)).collect();
    if pruned.is_empty() { Ok(all) } else { tree(&pruned) }
}

/// The published crates, each after those it depends on.
///
/// # Errors
/// If Cargo fails or the crates depend on each other in a circle.
pub fn release_order() -> anyhow::Result<Vec<Package>> {
    let mut left: BTreeMap<String, Package> =
        packages()?.into_iter().filter(|(_, package)| package.published).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let ready = left.values().find(|package| !package.dependencies.iter().any(|name| left.contains_key(name)));
        let name = ready.map(|package| package.name.clone()).context("crates depend on each other in a circle")?;
        order.extend(left.remove(&name));
    }
    Ok(order)
}
