//! Peers written in Python, which get the problems by name and give back when targets were reached.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};

use super::{Instances, Reached};
use crate::peer_command;

/// Who runs in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// pycma's CMA-ES with BIPOP restarts.
    Pycma,
    /// The swarm of pyswarms, everybody listening to everybody.
    Pyswarms,
}

impl Peer {
    /// How it is called in keys and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pycma => "pycma",
            Self::Pyswarms => "pyswarms",
        }
    }
}

/// Runs a peer on instances 1 to `n` of all functions, in so many processes.
///
/// # Errors
/// Where the environment `venv` lacks something, or a line makes no sense.
pub fn run_peer(
    peer: Peer,
    venv: &Path,
    dimension: usize,
    n: usize,
    budget: u64,
    processes: usize,
) -> anyhow::Result<Vec<Reached>> {
    let mut lines = vec![String::new(); processes];
    let mut instances = Instances::new(dimension, n)?;
    for k in 0..24 * n {
        let (function, instance) = (k / n + 1, k % n + 1);
        let optimum = instances.objective(function, instance, 1, None)?.optimum();
        lines[k % processes].push_str(&format!("{function} {instance} {dimension} {optimum}\n"));
    }
    let script = format!("bbob_{}.py", peer.name());
    let mut children = Vec::new();
    for lines in lines {
        let mut child = peer_command(venv, &script)
            .arg(budget.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("no Python in {}", venv.display()))?;
        // The script reads all problems before it writes anything.
        child.stdin.take().context("no standard input")?.write_all(lines.as_bytes())?;
        children.push(child);
    }
    let mut all = Vec::new();
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{} failed", script);
        for line in String::from_utf8(output.stdout)?.lines() {
            all.push(parse(line).with_context(|| format!("{} wrote `{line}`", script))?);
        }
    }
    ensure!(all.len() == 24 * n, "expected {} runs, {} gave {}", 24 * n, peer.name(), all.len());
    all.sort_unstable();
    Ok(all)
}

fn parse(line: &str) -> anyhow::Result<Reached> {
    let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [function, instance, dimension, after @ ..] = numbers.as_slice() else {
        anyhow::bail!("expected function, instance and dimension")
    };
    let [function, instance, dimension] = [*function, *instance, *dimension].map(|x| x as usize);
    Ok(Reached { function, instance, dimension, after: after.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let expected = Reached { function: 3, instance: 2, dimension: 5, after: vec![4, 9] };
        assert_eq!(parse("3 2 5 4 9").unwrap(), expected);
        assert!(parse("3 2").is_err() && parse("3 2 5 x").is_err());
    }
}
