//! Our swarms on COCO's 24 functions: which share of the targets do they reach, beside random search, argmin, pyswarms and pycma?

#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::Context;
use clap::Parser;
use coco_rs::{Observer, observer};
use krystal_benches::bbob::{Contestant, GROUPS, Instances, Peer, Reached, run_all, run_peer, share};
use krystal_benches::{Options, Report, Table, describe_host};
use krystal_swarm::Method;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Dimensions to run in.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 3, 5, 10, 20])]
    dimensions: Vec<usize>,
    /// Instances of each function.
    #[arg(long, default_value_t = 15)]
    instances: usize,
    /// Runs pycma for 10,000 evaluations a dimension (half an hour at D = 5), not for 1,000.
    #[arg(long)]
    long_peers: bool,
    /// Instead of all that, lets COCO write what the default does to exdata/NAME below this folder, for `python -m cocopp exdata/NAME`.
    #[arg(long, value_name = "NAME")]
    cocopp: Option<String>,
}

const ALL_FUNCTIONS: (usize, usize) = (1, 24);

/// Evaluations for each coordinate at which shares are taken.
const BUDGETS: [u64; 5] = [100, 300, 1000, 3000, 10_000];

/// Instances of each function for pycma at D = 20, which takes four minutes for one.
const PYCMA_INSTANCES_20: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.options.quick {
        (arguments.dimensions, arguments.instances) = (vec![2, 5], 2);
    }
    if let Some(name) = &arguments.cocopp {
        return write_for_cocopp(name, &arguments);
    }
    let options = &arguments.options;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut report = Report::default();
    let mut groups = Table::new(["swarm, D", GROUPS[0].0, GROUPS[1].0, GROUPS[2].0, GROUPS[3].0, GROUPS[4].0]);
    let mut shares = Table::new(["swarm, D", "100 D", "300 D", "1000 D", "3000 D", "10000 D"]);
    for &dimension in &arguments.dimensions {
        let mut results = Vec::new();
        for contestant in Contestant::ALL {
            let budget = budget(contestant, dimension, options.quick);
            let runs = run_all(contestant, dimension, arguments.instances, budget, threads)?;
            results.push((contestant.name().to_owned(), budget, runs));
        }
        if let Some(venv) = &options.peers {
            results.extend(run_peers(venv, dimension, &arguments, threads)?);
        }
        for (name, most, runs) in results {
            let row = format!("{name}, {dimension}");
            let cells = BUDGETS.map(|budget| (budget <= most).then(|| share(&runs, budget, ALL_FUNCTIONS)));
            for (budget, share) in BUDGETS.iter().zip(cells) {
                if let Some(share) = share {
                    report.keep(&format!("d{dimension}_{budget}.{name}"), round(share))?;
                }
            }
            shares.row(&row, cells.map(|share| share.map(|share| format!("{share:.3}"))));
            let of_group = |(_, first, last)| Some(format!("{:.2}", share(&runs, most, (first, last))));
            groups.row(&format!("{row}, after {most} D"), GROUPS.map(of_group));
        }
    }
    println!("{}\n", describe_host());
    println!("Share of all targets reached within so many evaluations:\n");
    print_table(&shares, options);
    println!("By group of functions:\n");
    print_table(&groups, options);
    report.close(options);
    Ok(())
}

/// Tables without a line about the machine each.
fn print_table(table: &Table, options: &Options) {
    println!("{}", table.text(options.markdown));
}

/// To four places: shares are counts over some 20,000 targets.
fn round(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}

fn budget(contestant: Contestant, dimension: usize, quick: bool) -> u64 {
    match contestant {
        _ if quick => 1000,
        Contestant::Ours(Method::Adaptive) => 10_000,
        _ if dimension <= 5 => 10_000,
        _ => 1000,
    }
}

fn run_peers(
    venv: &Path,
    dimension: usize,
    arguments: &Arguments,
    processes: usize,
) -> anyhow::Result<Vec<(String, u64, Vec<Reached>)>> {
    let mut results = Vec::new();
    if !matches!(dimension, 5 | 20) {
        return Ok(results);
    }
    let n = arguments.instances;
    let few = if dimension == 20 { n.min(PYCMA_INSTANCES_20) } else { n };
    let pycma_budget = if arguments.long_peers { 10_000 } else { 1000 };
    for (peer, n, budget) in [(Peer::Pyswarms, n, 1000), (Peer::Pycma, few, pycma_budget)] {
        results.push((peer.name().to_owned(), budget, run_peer(peer, venv, dimension, n, budget, processes)?));
    }
    if few < n {
        let default = run_all(Contestant::Ours(Method::Adaptive), dimension, few, 1000, processes)?;
        results.push((format!("default_on_{few}"), 1000, default));
    }
    Ok(results)
}

/// One thread: COCO's observer writes one problem after another.
fn write_for_cocopp(name: &str, arguments: &Arguments) -> anyhow::Result<()> {
    let options = format!("result_folder: {name} algorithm_name: krystal-swarm algorithm_info: \"default swarm\"");
    let observer = Observer::new(observer::Name::Bbob, &options).context("COCO made no observer")?;
    for &dimension in &arguments.dimensions {
        let mut instances = Instances::new(dimension, arguments.instances)?;
        for function in ALL_FUNCTIONS.0..=ALL_FUNCTIONS.1 {
            for instance in 1..=arguments.instances {
                let contestant = Contestant::Ours(Method::Adaptive);
                let budget = budget(contestant, dimension, arguments.options.quick);
                contestant.run(instances.objective(function, instance, budget, Some(&observer))?)?;
            }
        }
    }
    println!("COCO wrote to {}", observer.result_folder());
    Ok(())
}
