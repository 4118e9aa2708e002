//! Whole GRPO steps of random Qwen2 models of three sizes on one thread: completion tokens per second of processor time and
//! peak memory, beside TRL where `--peers` names a Python environment that has it.

#![forbid(unsafe_code)]

use clap::Parser;
use krystal_benches::{ChildArguments, Measured, Options, Report, Size, Table, TrainingRun, median};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    child: ChildArguments,
}

fn main() -> anyhow::Result<()> {
    let Arguments { options, child } = Arguments::parse();
    if child.run()? {
        return Ok(());
    }
    let rounds = if options.quick { 1 } else { 3 };
    let steps = |full: u64| if options.quick { full.div_ceil(5) } else { full };
    let mut report = Report::default();
    let mut table = Table::new(["size", "tokens/CPU s", "TRL tokens/CPU s", "ratio", "peak MiB", "TRL peak MiB"]);
    for size in Size::ALL {
        let run = TrainingRun { size, steps: steps(size.steps), threads: 1, prompts: 1, run_dir: None };
        let peer_run = TrainingRun { steps: steps(size.peer_steps), ..run.clone() };
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        // Interleaved, so that both see the same machine.
        for _ in 0..rounds {
            ours.push(run.in_child()?);
            if let Some(environment) = &options.peers {
                peer.push(peer_run.in_peer(environment)?);
            }
        }
        let mut keep = |name: &str, value: Option<f64>| match value {
            Some(value) => report.keep(&format!("{}.{name}", size.name), value),
            None => Ok(()),
        };
        let (speed, peer_speed) = (speed(&ours), speed(&peer));
        let ratio = speed.zip(peer_speed).map(|(ours, peer)| ours / peer);
        let (peak, peer_peak) = (peak(&ours), peak(&peer));
        keep("ratio", ratio)?;
        keep("ours_tokens_per_cpu_s", speed)?;
        keep("trl_tokens_per_cpu_s", peer_speed)?;
        keep("peak_mib", peak)?;
        keep("trl_peak_mib", peer_peak)?;
        let whole = |value: Option<f64>| value.map(|value| format!("{value:.0}"));
        let ratio = ratio.map(|ratio| format!("{ratio:.1}"));
        table.row(size.name, [whole(speed), whole(peer_speed), ratio, whole(peak), whole(peer_peak)]);
    }
    table.print(&options);
    if options.peers.is_none() {
        println!("TRL was not run: `--peers VENV` names a Python environment that has it.");
    }
    report.close(&options);
    Ok(())
}

/// The median of tokens per second of processor time; `None` without runs.
fn speed(runs: &[Measured]) -> Option<f64> {
    (!runs.is_empty()).then(|| median(runs.iter().map(Measured::tokens_per_cpu_s).collect()))
}

/// The median of the peaks that are known.
fn peak(runs: &[Measured]) -> Option<f64> {
    let known: Vec<f64> = runs.iter().filter_map(|run| run.peak_mib).collect();
    (!known.is_empty()).then(|| median(known))
}
