//! Online learners: steps a second of TD(0), of the whole agent, of prioritised replay, of a swarm and of a simulated lattice, beside numpy,
//! Vowpal Wabbit, cpprb and argmin; and where a cycle of the agent spends its time.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::Parser;
use krystal_benches::{Options, Report, Table, median, peer_command, per, pso, spin_updates_per_second, td};
use serde_json::{Map, Value};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Slots of the replay buffers.
const SLOTS: usize = 1 << 20;

/// What is measured: its key, and what it is.
const ROWS: [(&str, &str); 15] = [
    ("td0_seq_per_s", "TD(0), 8 features, one after another"),
    ("numpy_td0_per_s", "the same in numpy"),
    ("vw_cached_per_s", "Vowpal Wabbit, SGD on 8 features, its own loop"),
    ("vw_learn_per_s", "Vowpal Wabbit, `learn()` from Python"),
    ("td0_batch_per_s", "TD(0), 8 features, 64 learners together"),
    ("cycle_per_s", "the agent: observe, decide, reward"),
    ("per_add_per_s", "prioritised replay, 2^20 slots: added"),
    ("cpprb_add_per_s", "cpprb"),
    ("per_sample_per_s", "prioritised replay: drawn"),
    ("cpprb_sample_per_s", "cpprb"),
    ("per_update_per_s", "prioritised replay: priorities set"),
    ("cpprb_update_per_s", "cpprb"),
    ("pso_per_s", "particle swarm, 50 particles of 30 dimensions"),
    ("argmin_per_s", "argmin"),
    ("ising_per_s", "Ising lattice 128 x 128, spin updates"),
];

/// Rates by name, one for each round.
#[derive(Debug, Default)]
struct Rounds(BTreeMap<String, Vec<f64>>);

impl Rounds {
    fn add(&mut self, name: &str, rate: f64) {
        self.0.entry(name.to_owned()).or_default().push(rate);
    }

    fn best(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.iter().copied().reduce(f64::max)
    }

    fn median(&self, name: &str) -> Option<f64> {
        Some(median(self.0.get(name)?.clone()))
    }
}

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let mut report = Report::default();
    let rounds = measure(&options)?;
    let mut table = Table::new(["a second, millions", "best", "median"]);
    for (key, what) in ROWS {
        if let (Some(best), Some(median)) = (rounds.best(key), rounds.median(key)) {
            table.row(what, [best, median].map(|rate| Some(format!("{:.3}", rate / 1e6))));
            report.keep(key, best)?;
        }
    }
    table.print(&options);

    let mut table = Table::new(["best over the peer's best", "ratio"]);
    for (key, what, ours, theirs) in [
        ("pso_ratio_argmin", "particle swarm / argmin", "pso_per_s", "argmin_per_s"),
        ("per_add_ratio_cpprb", "replay, added / cpprb", "per_add_per_s", "cpprb_add_per_s"),
        ("per_sample_ratio_cpprb", "replay, drawn / cpprb", "per_sample_per_s", "cpprb_sample_per_s"),
        ("per_update_ratio_cpprb", "replay, priorities / cpprb", "per_update_per_s", "cpprb_update_per_s"),
        ("td0_ratio_vw", "TD(0) / Vowpal Wabbit's own loop", "td0_seq_per_s", "vw_cached_per_s"),
        ("td0_ratio_numpy", "TD(0) / numpy", "td0_seq_per_s", "numpy_td0_per_s"),
    ] {
        if let (Some(ours), Some(theirs)) = (rounds.best(ours), rounds.best(theirs)) {
            table.row(what, [Some(format!("{:.2}", ours / theirs))]);
            report.keep(key, ours / theirs)?;
        }
    }
    table.print(&options);
    profile(&options, &mut report)?;
    report.close(&options);
    Ok(())
}

/// Everything in turns, so that all see the same machine.
fn measure(options: &Options) -> anyhow::Result<Rounds> {
    let (n_rounds, scale) = if options.quick { (2, 1) } else { (7, 4) };
    let mut rounds = Rounds::default();
    for round in 0..n_rounds {
        // Short, and many of them: the longer a measurement, the surer something else comes between.
        for _ in 0..5 * scale {
            rounds.add("td0_seq_per_s", td::sequential(500_000)?);
            rounds.add("td0_batch_per_s", td::batched(2_000_000)?);
            rounds.add("cycle_per_s", td::cycles(50_000)?);
        }
        for _ in 0..scale {
            let replay = per::rates(SLOTS, 500)?;
            rounds.add("per_add_per_s", replay.add);
            rounds.add("per_sample_per_s", replay.sample);
            rounds.add("per_update_per_s", replay.update);
        }
        rounds.add("pso_per_s", pso::ours(scale * 2_000, round)?);
        #[cfg(feature = "peers")]
        rounds.add("argmin_per_s", pso::argmin(scale * 500, round)?);
        rounds.add("ising_per_s", spin_updates_per_second(true));
        if let Some(venv) = &options.peers {
            for script in ["rl_numpy.py", "rl_vw.py", "rl_cpprb.py"] {
                for (name, rate) in peer(venv, script)? {
                    rounds.add(&name, rate.as_f64().with_context(|| format!("{script}: `{name}` is no number"))?);
                }
            }
        }
    }
    Ok(rounds)
}

/// What a peer's script prints.
fn peer(venv: &Path, script: &str) -> anyhow::Result<Map<String, Value>> {
    let output = peer_command(venv, script).output().with_context(|| format!("cannot run {script}"))?;
    ensure!(output.status.success(), "{script} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{script} printed `{line}`"))
}

/// Where a cycle of the agent spends its time.
fn profile(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (n_rounds, cycles) = if options.quick { (2, 2_000) } else { (9, 20_000) };
    let profiles = (0..n_rounds).map(|_| td::profile(cycles)).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |part: fn(&td::Profile) -> f64| median(profiles.iter().map(part).collect());
    let parts = [
        ("observe", of(|p| p.observe)),
        ("decide", of(|p| p.decide)),
        ("learn (TD update and temperature)", of(|p| p.learn)),
        ("reward", of(|p| p.reward)),
        ("overhead", of(|p| p.overhead)),
    ];
    let total: f64 = parts.iter().map(|part| part.1).sum();
    let mut table = Table::new(["a cycle of the agent", "ns", "share"]);
    for (name, ns) in parts {
        table.row(name, [Some(format!("{ns:.1}")), Some(format!("{:.0} %", 100.0 * ns / total))]);
        let key = name.split(' ').next().unwrap_or(name);
        report.keep(&format!("{key}_ns"), ns)?;
    }
    table.print(options);

    let memory: Vec<(f64, f64)> = (0..n_rounds).map(|_| td::state_memory(cycles * 50)).collect();
    let pooled = median(memory.iter().map(|memory| memory.0).collect());
    let allocated = median(memory.iter().map(|memory| memory.1).collect());
    let mut table = Table::new(["memory for the state of one cycle", "ns"]);
    table.row("the agent's own, used again", [Some("0".to_owned())]);
    table.row("from a pool and back", [Some(format!("{pooled:.1}"))]);
    table.row("from the allocator and back", [Some(format!("{allocated:.1}"))]);
    table.print(options);
    report.keep("state_pool_ns", pooled)?;
    report.keep("state_allocator_ns", allocated)
}
