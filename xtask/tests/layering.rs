//! The invariants of ARCHITECTURE.md that are about what is absent, asked of Cargo and of the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use xtask::graph::{Package, closure, packages};

/// What each crate may depend on, of ours. A crate that is not here may not exist.
const LAYERS: [(&str, &[&str]); 17] = [
    ("krystal-math", &[]),
    ("krystal-checkpoint", &[]),
    ("dynlora-core", &["krystal-math", "krystal-checkpoint"]),
    ("dynlora-resonance", &["krystal-math", "krystal-checkpoint", "dynlora-core"]),
    ("krystal-lm", &["krystal-math", "krystal-checkpoint", "dynlora-core"]),
    ("krystal-phase", &["krystal-math"]),
    ("krystal-swarm", &["krystal-math", "krystal-checkpoint"]),
    ("krystal-rl-derive", &[]),
    ("krystal-rl", &["krystal-math", "krystal-checkpoint", "krystal-phase", "krystal-swarm", "krystal-rl-derive"]),
    ("krystal-verify", &["krystal-math"]),
    ("llm-providers", &[]),
    ("sphere-hierarchy", &["krystal-math"]),
    // krystal-lm and krystal-verify behind the features `lm` and `verify`: the adapters between siblings live above them.
    (
        "grpo-trainer",
        &[
            "krystal-math",
            "krystal-checkpoint",
            "dynlora-core",
            "dynlora-resonance",
            "krystal-lm",
            "krystal-phase",
            "krystal-verify",
            "sphere-hierarchy",
        ],
    ),
    (
        "krystal",
        &[
            "krystal-math",
            "krystal-checkpoint",
            "dynlora-core",
            "dynlora-resonance",
            "krystal-lm",
            "krystal-phase",
            "krystal-swarm",
            "krystal-rl",
            "krystal-rl-derive",
            "krystal-verify",
            "sphere-hierarchy",
            "grpo-trainer",
            "llm-providers",
        ],
    ),
    (
        "krystal-cli",
        &[
            "krystal-math",
            "krystal-checkpoint",
            "dynlora-core",
            "dynlora-resonance",
            "krystal-lm",
            "krystal-phase",
            "krystal-swarm",
            "krystal-rl",
            "krystal-rl-derive",
            "krystal-verify",
            "sphere-hierarchy",
            "grpo-trainer",
            "llm-providers",
            "krystal",
        ],
    ),
    (
        "krystal-benches",
        &[
            "krystal-math",
            "krystal-checkpoint",
            "dynlora-core",
            "dynlora-resonance",
            "krystal-lm",
            "krystal-phase",
            "krystal-swarm",
            "krystal-rl",
            "krystal-rl-derive",
            "krystal-verify",
            "sphere-hierarchy",
            "grpo-trainer",
            "llm-providers",
            "krystal",
        ],
    ),
    ("xtask", &[]),
];

const ASYNC_AND_NETWORK: [&str; 25] = [
    "actix-web",
    "async-io",
    "async-std",
    "async-trait",
    "attohttpc",
    "axum",
    "curl",
    "futures",
    "futures-core",
    "futures-util",
    "h2",
    "hf-hub",
    "hyper",
    "isahc",
    "mio",
    "minreq",
    "native-tls",
    "openssl",
    "quinn",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "ureq",
];

fn of_ours(packages: &BTreeMap<String, Package>, names: &BTreeSet<String>) -> BTreeSet<String> {
    names.iter().filter(|name| packages.contains_key(*name)).cloned().collect()
}

fn assert_absent(package: &str, features: &[&str], pruned: &[&str], absent: &[&str]) {
    let closure = closure(package, features, pruned).unwrap();
    assert!(closure.contains(package), "{closure:?}");
    let found: Vec<_> = absent.iter().filter(|name| closure.contains(**name)).collect();
    assert!(found.is_empty(), "{package} {features:?} must not depend on {found:?}");
}

#[test]
fn crates_depend_only_downwards() {
    let packages = packages().unwrap();
    let layers: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    for package in packages.values() {
        let allowed = layers.get(package.name.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("{} is in no layer: add it to the table", package.name));
        let wrong: Vec<_> = of_ours(&packages, &package.dependencies)
            .into_iter()
            .filter(|name| !allowed.contains(&name.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{} must not depend on {wrong:?}", package.name);
    }
    // The table itself has no circle: whoever may be depended on stands above in it.
    for (index, (name, allowed)) in LAYERS.iter().enumerate() {
        let above: Vec<_> = LAYERS[..index].iter().map(|(name, _)| *name).collect();
        assert!(allowed.iter().all(|name| above.contains(name)), "{name}");
    }
}

#[test]
fn nothing_depends_on_the_binary_the_benches_or_xtask() {
    for package in packages().unwrap().values() {
        for top in ["krystal-cli", "krystal-benches", "xtask"] {
            assert!(!package.dependencies.contains(top), "{} depends on {top}", package.name);
            assert!(!package.dev_dependencies.contains(top), "the tests of {} depend on {top}", package.name);
        }
    }
}

#[test]
fn only_the_providers_and_what_offers_them_know_async_and_the_network() {
    let packages = packages().unwrap();
    // The umbrella and the binary know them through `llm-providers` alone; the binary waits for them itself.
    let allowed = |name: &str| name == "llm-providers" || name == "krystal-cli";
    for package in packages.values().filter(|package| package.published && !allowed(&package.name)) {
        let features: Vec<&str> = package.features.iter().map(String::as_str).collect();
        assert_absent(&package.name, &features, &["llm-providers"], &ASYNC_AND_NETWORK);
    }
}

#[test]
fn there_is_no_entropy_of_the_operating_system_below_the_trainer() {
    assert_absent("krystal-math", &[], &[], &["getrandom"]);
    assert_absent("krystal-checkpoint", &[], &[], &["getrandom"]);
    assert_absent("krystal-verify", &[], &[], &["getrandom"]);
    assert_absent("grpo-trainer", &[], &[], &["getrandom"]);
    // safetensors names the temporary file of `serialize_to_file` by chance, which is not called here.
    assert_absent("dynlora-core", &[], &["safetensors"], &["getrandom"]);
    assert_absent("dynlora-resonance", &[], &["safetensors"], &["getrandom"]);
    // tokenizers draws for BPE dropout and its trainers, and seeds its hash maps; neither changes what is encoded.
    assert_absent("krystal-lm", &[], &["safetensors", "tokenizers"], &["getrandom"]);
}

#[test]
fn the_numerics_know_no_file_no_thread_pool_and_no_serialisation() {
    let absent = ["serde", "serde_json", "bincode", "rayon", "crossbeam-deque", "memmap2", "safetensors", "tempfile"];
    assert_absent("krystal-math", &[], &[], &absent);
}

#[test]
fn only_the_checkpoints_know_bincode() {
    for package in packages().unwrap().values() {
        let knows = package.dependencies.contains("bincode") || package.dev_dependencies.contains("bincode");
        assert_eq!(knows, package.name == "krystal-checkpoint", "{}", package.name);
    }
}

#[test]
fn every_crate_has_a_readme_and_a_changelog() {
    for package in packages().unwrap().values().filter(|package| package.published) {
        for (file, least) in [("README.md", "# "), ("CHANGELOG.md", "# Changelog")] {
            let path = package.folder.join(file);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(text.starts_with(least), "{}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_except_in_the_language_model_and_beside_gemm() {
    for package in packages().unwrap().values().filter(|package| package.name != "krystal-lm") {
        // The library of the benches calls the crate gemm, whose only entry is unsafe; the workspace's lint denies it elsewhere.
        for root in package.roots.iter().filter(|root| !root.ends_with("benches/src/lib.rs")) {
            let text = fs::read_to_string(root).unwrap();
            assert!(text.contains("#![forbid(unsafe_code)]"), "{} lacks #![forbid(unsafe_code)]", root.display());
        }
    }
}

#[test]
fn there_is_no_clock_below_the_trainer() {
    let packages = packages().unwrap();
    // krystal-verify has deadlines for the programs it runs.
    for name in ["krystal-math", "krystal-checkpoint", "dynlora-core", "dynlora-resonance", "krystal-lm"] {
        for file in sources(&packages[name].folder.join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            for clock in ["Instant", "SystemTime"] {
                assert!(!text.contains(clock), "{} mentions {clock}", file.display());
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
