//! `krystal sphere tree`: a step, by counting alone.

use clap::Args;
use krystal::spheres::{ARITY, count_at_depth, height, leaves_at_depth, optimal_depth, peak_buffers};
use serde::Serialize;
use serde_json::json;

use crate::cli::Global;
use crate::terminal::Terminal;

/// Flags of `krystal sphere tree`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal sphere tree --batches 500
  krystal sphere tree --batches 1728 --threads 2 --json

With --json the line is {\"optimal_depth\": .., \"spheres\": [1, 13, ..], \"peak_buffers\": .., \"buffers_of_a_sphere_each\": .., ..}.")]
pub(crate) struct Options {
    /// Micro-batches of a step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    batches: u64,
}

pub(crate) fn run(options: &Options, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let batches = usize::try_from(options.batches)?;
    let threads = global.threads.map_or_else(rayon::current_num_threads, std::num::NonZero::get);
    let optimal = optimal_depth(batches)?;
    let depths = (0..=optimal).map(|depth| Ok((leaves_at_depth(depth)?, count_at_depth(depth)?)));
    let depths = depths.collect::<anyhow::Result<Vec<_>>>()?;
    let height = height(batches);
    let peak = peak_buffers(batches, threads);
    let each = nodes(options.batches);
    terminal.line(&format!("{:>5} {:>20} {:>20}", "depth", "spheres there", "spheres in all"));
    for (depth, (leaves, count)) in depths.iter().enumerate() {
        let mark = if depth == optimal as usize { "  every one has a batch, and no deeper" } else { "" };
        terminal.line(&format!("{depth:>5} {leaves:>20} {count:>20}{mark}"));
    }
    terminal.line(&format!("the sum of {batches} micro-batches has {height} levels of additions, at any depth"));
    terminal.line(&format!(
        "gradients in memory at most: {peak} on {threads} threads, against {each} of one for each sphere{}",
        if peak as u64 > each { " (more, not less: so many threads for so few batches)" } else { "" }
    ));
    terminal.json(&json!({
        "batches": batches,
        "threads": threads,
        "optimal_depth": optimal,
        "spheres": depths.iter().map(|(_, count)| count).collect::<Vec<_>>(),
        "levels": height,
        "peak_buffers": peak,
        "buffers_of_a_sphere_each": each,
    }));
    Ok(())
}

/// Nodes of the tree over so many leaves.
fn nodes(leaves: u64) -> u64 {
    let above = |&width: &u64| (width > 1).then(|| width.div_ceil(ARITY as u64));
    std::iter::successors(Some(leaves), above).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted() {
        for (leaves, expected) in [(1, 1), (2, 3), (12, 13), (13, 16), (144, 157), (1_728, 1_885)] {
            assert_eq!(nodes(leaves), expected, "{leaves}");
        }
        assert!(nodes(i64::MAX as u64) > i64::MAX as u64);
    }
}
