//! `cargo xtask ci`: every check, cheapest first.

use std::env;
use std::time::Instant;

use anyhow::bail;

use crate::bench::PACKAGE;
use crate::command::{self, cargo, has_cargo};
use crate::{graph, llm_servers, system, test};

/// Options of `cargo xtask ci`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    test: test::Arguments,
    /// Fail where a check would be skipped because its tool or data is not here.
    #[arg(long)]
    strict: bool,
}

/// Runs formatting, dependency rules, lints, each crate and feature alone, documentation and all tests, then repeats the
/// closing lines of the tests.
///
/// Everything uses one target directory and the development profile, so that third-party crates are compiled once for
/// checking and once for testing.
///
/// # Errors
/// At the first check that fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let timer = Timer::start();
    command::run(&mut cargo(["fmt", "--all", "--check"]))?;
    timer.lap("formatting");
    dependency_rules(arguments.strict)?;
    timer.lap("dependency rules");
    let selection = arguments.test.selection();
    command::run(cargo(["clippy"]).args(&selection).args(["--all-targets", "--", "-D", "warnings"]))?;
    timer.lap("lints");
    each_crate_alone(arguments)?;
    timer.lap("each crate and feature alone");
    let flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    command::run(
        cargo(["doc", "--no-deps"]).args(&selection).env("RUSTDOCFLAGS", format!("{flags} -D warnings").trim()),
    )?;
    timer.lap("documentation");
    optimiser_benchmark(arguments)?;
    timer.lap("benchmark of optimisers");
    servers_of_others(arguments)?;
    timer.lap("servers of others");
    let closing = test::run(&arguments.test)?;
    timer.lap("tests");
    println!("every check passed; the tests closed with:");
    for line in closing {
        println!("{line}");
    }
    Ok(())
}

/// Licences, sources, duplicates and advisories, by the rules of `deny.toml`.
fn dependency_rules(strict: bool) -> anyhow::Result<()> {
    if !has_cargo("deny") {
        return skip(strict, "dependency rules of deny.toml: cargo-deny is not installed");
    }
    command::run(&mut cargo(["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    // The advisories are a repository of their own, which not every machine can reach.
    if command::run(&mut cargo(["deny", "fetch", "db"])).is_err() {
        return skip(strict, "advisories: their database could not be fetched");
    }
    command::run(&mut cargo(["deny", "--offline", "check", "advisories"]))
}

/// The servers that `llm-providers` is tested against, where it is chosen.
fn servers_of_others(arguments: &Arguments) -> anyhow::Result<()> {
    let chosen = &arguments.test.packages;
    if chosen.is_empty() || chosen.iter().any(|name| name == "llm-providers") {
        for missing in llm_servers::install()? {
            skip(arguments.strict, &missing)?;
        }
    }
    Ok(())
}

fn skip(strict: bool, what: &str) -> anyhow::Result<()> {
    if strict {
        bail!("not checked: {what}");
    }
    println!("skipped: {what}");
    Ok(())
}

/// A build of the whole workspace unifies features and hides what a crate forgot to ask for.
fn each_crate_alone(arguments: &Arguments) -> anyhow::Result<()> {
    for package in graph::packages()?.values().filter(|package| arguments.test.chooses(package)) {
        command::run(&mut cargo(["check", "--package", &package.name]))?;
        command::run(&mut cargo(["check", "--package", &package.name, "--no-default-features"]))?;
        for feature in &package.features {
            if let Some(reason) = system::missing(feature) {
                skip(arguments.strict, &format!("feature `{feature}` of {}: {reason}", package.name))?;
                continue;
            }
            let alone = ["--package", &package.name, "--no-default-features", "--features", feature];
            command::run(cargo(["check"]).args(alone))?;
            // The lints of the whole workspace are those of its default features.
            if system::is_particular(feature) {
                let lints = ["clippy", "--package", &package.name, "--features", feature, "--all-targets"];
                command::run(cargo(lints).args(["--", "-D", "warnings"]))?;
            }
        }
    }
    Ok(())
}

/// The swarms on COCO's functions, a few of them: where the benches are chosen, and libclang is here.
fn optimiser_benchmark(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.test.packages.is_empty() && !arguments.test.packages.iter().any(|name| name == PACKAGE) {
        return Ok(());
    }
    if let Some(reason) = system::missing(system::BBOB) {
        return skip(arguments.strict, &format!("benchmark of optimisers: {reason}"));
    }
    let bench = ["run", "--quiet", "--package", PACKAGE, "--features", system::BBOB, "--bin", system::BBOB];
    command::run(cargo(bench).args(["--", "--quick"]))
}

/// Says how long each check took.
struct Timer {
    last: std::cell::Cell<Instant>,
}

impl Timer {
    fn start() -> Self {
        Self { last: std::cell::Cell::new(Instant::now()) }
    }

    fn lap(&self, what: &str) {
        let seconds = self.last.replace(Instant::now()).elapsed().as_secs_f64();
        println!("ok: {what} ({seconds:.0} s)");
    }
}
