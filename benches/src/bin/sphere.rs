//! Gradients added up: bandwidth against that of reading alone, beside the other ways; what a sphere costs that has nothing to
//! compute; and what threads add to the work.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use std::path::Path;

use anyhow::{Context, ensure};
use clap::Parser;
use krystal_benches::{Options, Report, Table, cpu_seconds, median, peer_command, thread_cpu_seconds};
use pulp::Arch;
use rayon::prelude::*;
use sphere_hierarchy::collective::{Collective, InProcess};
use sphere_hierarchy::{
    Accumulation, Attempt, GradientWorker, SphereConfig, SphereHierarchy, reduce, reduce_on_threads,
};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Sources and parameters of a case, and its name in the report.
const CASES: [(usize, usize, &str); 3] =
    [(12, 1_000_000, "12x1e6"), (12, 10_000_000, "12x1e7"), (144, 250_000, "144x250k")];

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let mut report = Report::default();
    reductions(&options, &mut report)?;
    spheres(&options, &mut report)?;
    if let Some(venv) = &options.peers {
        ddp(&options, venv, &mut report)?;
    }
    report.close(&options);
    Ok(())
}

/// Reads every number and does the least with it.
fn read(values: &[f32]) -> u32 {
    #[inline(always)]
    fn fold(values: &[f32]) -> u32 {
        let mut lanes = [0_u32; 128];
        for values in values.chunks_exact(128) {
            for (lane, x) in lanes.iter_mut().zip(values) {
                *lane ^= x.to_bits();
            }
        }
        lanes.iter().fold(0, |a, b| a ^ b)
    }
    Arch::new().dispatch(|| fold(values))
}

/// Buffers in a row, each added to the whole sum before the next.
fn whole_buffers(sources: &[&[f32]], out: &mut [f32]) {
    out.fill(0.0);
    for source in sources {
        out.iter_mut().zip(*source).for_each(|(sum, x)| *sum += x);
    }
}

/// Every addition of a buffer under one lock.
fn mutex(sources: &[&[f32]], out: &Mutex<Vec<f32>>) {
    if let Ok(mut out) = out.lock() {
        out.fill(0.0);
    }
    sources.par_iter().for_each(|source| {
        if let Ok(mut out) = out.lock() {
            out.iter_mut().zip(*source).for_each(|(sum, x)| *sum += x);
        }
    });
}

/// Every number added by compare-and-swap.
fn atomics(sources: &[&[f32]], out: &[AtomicU32]) {
    out.iter().for_each(|sum| sum.store(0, Ordering::Relaxed));
    sources.par_iter().for_each(|source| {
        for (sum, x) in out.iter().zip(*source) {
            let add = |bits| Some((f32::from_bits(bits) + x).to_bits());
            let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    });
}

/// rayon's own reduction: a buffer for every task that it makes.
fn rayon_reduce(sources: &[&[f32]], len: usize) -> Vec<f32> {
    let add = |mut sum: Vec<f32>, x: &[f32]| {
        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        sum
    };
    sources.par_iter().fold(|| vec![0.0; len], |sum, x| add(sum, x)).reduce(|| vec![0.0; len], |a, b| add(a, &b))
}

fn reductions(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let rounds = if options.quick { 3 } else { 15 };
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let ways = ["read alone", "spheres", "whole buffers", "mutex per buffer", "rayon reduce", "atomics per number"];
    let mut table = Table::new(["input GB/s of one core", "12 x 1e6", "12 x 1e7", "144 x 2.5e5"]);
    let mut threads_table = Table::new(["wall ms, all threads", "12 x 1e6", "12 x 1e7", "144 x 2.5e5"]);
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut wall_columns: Vec<[f64; 2]> = Vec::new();
    for (n, len, name) in CASES {
        let buffers: Vec<Vec<f32>> =
            (0..n).map(|i| (0..len).map(|at| ((i * 31 + at * 7) % 1000) as f32 - 499.5).collect()).collect();
        let sources: Vec<&[f32]> = buffers.iter().map(Vec::as_slice).collect();
        let (mut out, mut expected) = (vec![0.0; len], vec![0.0; len]);
        whole_buffers(&sources, &mut expected);
        let locked = Mutex::new(vec![0.0_f32; len]);
        let atoms: Vec<AtomicU32> = (0..len).map(|_| AtomicU32::new(0)).collect();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
        let mut wall: [Vec<f64>; 2] = Default::default();
        // Interleaved, so that all see the same machine; the first round warms up.
        for round in 0..=rounds {
            for (way, times) in times.iter_mut().enumerate() {
                // The slowest ways need no more than a few rounds to be told apart.
                if way == 5 && round > 3 {
                    continue;
                }
                let seconds = one.install(|| {
                    let start = thread_cpu_seconds();
                    match way {
                        0 => {
                            sources.iter().for_each(|source| {
                                black_box(read(source));
                            });
                        }
                        1 => {
                            let _ = black_box(reduce(&sources, &[], Accumulation::Plain, &mut out));
                        }
                        2 => whole_buffers(&sources, &mut out),
                        3 => mutex(&sources, &locked),
                        4 => {
                            black_box(rayon_reduce(&sources, len));
                        }
                        _ => atomics(&sources, &atoms),
                    }
                    thread_cpu_seconds() - start
                });
                if round > 0 {
                    times.push(seconds);
                }
            }
            for (way, wall) in wall.iter_mut().enumerate() {
                let start = Instant::now();
                match way {
                    0 => {
                        let _ = black_box(reduce(&sources, &[], Accumulation::Plain, &mut out));
                    }
                    _ => {
                        let _ = black_box(reduce_on_threads(&sources, &[], Accumulation::Plain, &mut out));
                    }
                }
                if round > 0 {
                    wall.push(1e3 * start.elapsed().as_secs_f64());
                }
            }
        }
        // Whole numbers and halves: every order gives the same sum.
        ensure!(out == expected, "{name}: the sums differ");
        let bytes = (n * len * size_of::<f32>()) as f64;
        let rates: Vec<f64> = times.into_iter().map(|times| bytes / median(times) / 1e9).collect();
        report.keep(&format!("reduce_{name}_of_same_buffers"), rates[1] / rates[0])?;
        report.keep(&format!("reduce_{name}_gbps"), rates[1])?;
        report.keep(&format!("read_{name}_gbps"), rates[0])?;
        columns.push(rates);
        wall_columns.push(wall.map(median));
    }
    // The machine's: no cache holds the buffers of the middle case.
    let read = columns[1][0];
    report.keep("read_gbps", read)?;
    for ((.., name), rates) in CASES.iter().zip(&columns) {
        report.keep(&format!("reduce_{name}_fraction"), rates[1] / read)?;
    }
    for (way, name) in ways.iter().enumerate() {
        table.row(name, columns.iter().map(|rates| Some(format!("{:.1}", rates[way]))));
    }
    table.row("spheres / read of 12 x 1e7", columns.iter().map(|rates| Some(format!("{:.2}", rates[1] / read))));
    table.row(
        "spheres / read of the same buffers",
        columns.iter().map(|rates| Some(format!("{:.2}", rates[1] / rates[0]))),
    );
    table.print(options);
    for (way, name) in ["one", "all"].iter().enumerate() {
        threads_table.row(name, wall_columns.iter().map(|wall| Some(format!("{:.2}", wall[way]))));
    }
    threads_table.print(options);
    Ok(())
}

/// A micro-batch that takes as long as `work` additions.
struct Busy {
    n: usize,
    work: usize,
}

impl GradientWorker for Busy {
    type Batch = usize;
    type Element = f32;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        self.n
    }

    fn gradient(&self, batch: &usize, _: &Attempt<'_>, out: &mut [f32]) -> Result<(), Infallible> {
        let mut x = *batch as f32;
        for _ in 0..self.work {
            x = black_box(x) * 0.999 + 0.5;
        }
        out.fill(x);
        Ok(())
    }
}

fn spheres(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let rounds = if options.quick { 20 } else { 200 };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut table = Table::new(["1,885 empty micro-batches", "ms"]);
    // Nothing is computed and nothing is added.
    let (empty, batches) = (Busy { n: 0, work: 0 }, (0..1_885).collect::<Vec<usize>>());
    for (threads, depth, name) in [
        (2, None, "two threads"),
        (2, Some(3), "two threads, a sphere for 12"),
        (2, Some(4), "two threads, a sphere for each"),
        (1, Some(4), "one thread, a sphere for each"),
    ] {
        let start = Instant::now();
        let config = SphereConfig { threads: Some(threads), depth, ..SphereConfig::default() };
        let mut spheres = SphereHierarchy::new(config)?;
        if depth.is_none() {
            spheres = spheres.with_clock(std::sync::Arc::new(move || start.elapsed()));
        }
        let mut times = Vec::new();
        for round in 0..=rounds {
            let start = Instant::now();
            black_box(spheres.run(&empty, &batches)?);
            if round > 0 {
                times.push(1e3 * start.elapsed().as_secs_f64());
            }
        }
        let time = median(times);
        match (threads, depth) {
            (2, None) => report.keep("leaves_1885_ms", time)?,
            (2, Some(4)) => report.keep("leaves_1885_a_sphere_each_ms", time)?,
            _ => {}
        }
        table.row(name, [Some(format!("{time:.3}"))]);
    }
    table.print(options);

    // Processor time of two threads over that of one, for the same work: what sharing costs.
    let rounds = if options.quick { 3 } else { 15 };
    let (work, n) = if options.quick { (20_000, 100_000) } else { (200_000, 100_000) };
    let busy = Busy { n, work };
    let batches: Vec<usize> = (0..144).collect();
    let run = |threads: usize| {
        let start = Instant::now();
        let config = SphereConfig { threads: Some(threads), depth: Some(2), ..SphereConfig::default() };
        Ok::<_, anyhow::Error>(SphereHierarchy::new(config)?.with_clock(std::sync::Arc::new(move || start.elapsed())))
    };
    let (mut one, mut two) = (run(1)?, run(2)?);
    let (mut cpu, mut wall): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    let mut predicted = Vec::new();
    for round in 0..=rounds {
        for (way, spheres) in [&mut one, &mut two].into_iter().enumerate() {
            let (start, start_cpu) = (Instant::now(), cpu_seconds());
            let found = spheres.run(&busy, &batches)?;
            if round > 0 {
                wall[way].push(start.elapsed().as_secs_f64());
                cpu[way].push(cpu_seconds() - start_cpu);
                if way == 1 {
                    predicted.push(found.statistics.predicted_speed_up);
                }
            }
            if round == rounds && way == 1 {
                println!("{}\n", found.statistics);
            }
        }
    }
    let ratio = |times: [Vec<f64>; 2]| {
        let [one, two] = times.map(median);
        two / one
    };
    let (inflation, speed_up, predicted) = (ratio(cpu), 1.0 / ratio(wall), median(predicted));
    report.keep("work_inflation_2", inflation)?;
    report.keep("speed_up_2", speed_up)?;
    report.keep("predicted_speed_up_2", predicted)?;
    let mut table = Table::new(["144 micro-batches, two threads over one", "ratio"]);
    table.row("processor time (work inflation)", [Some(format!("{inflation:.3}"))]);
    table.row("speed-up, wall", [Some(format!("{speed_up:.2}"))]);
    table.row("speed-up predicted from imbalance", [Some(format!("{predicted:.2}"))]);
    table.print(options);
    ensure!(threads >= 2, "two threads were measured on one core");
    Ok(())
}

/// Micro-batches whose gradients of `n` numbers are given.
struct Given {
    n: usize,
}

impl GradientWorker for Given {
    type Batch = Vec<f32>;
    type Element = f32;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        self.n
    }

    fn gradient(&self, batch: &Vec<f32>, _: &Attempt<'_>, out: &mut [f32]) -> Result<(), Infallible> {
        out.copy_from_slice(batch);
        Ok(())
    }
}

/// What a way of adding two gradients costs.
#[derive(Debug, Default)]
struct Cost {
    wall_ms: Vec<f64>,
    /// Memory beyond the two gradients, of all processes.
    extra_mib: f64,
}

/// Two gradients added: by two threads, by two ranks that are threads, and by two processes of PyTorch over gloo.
fn ddp(options: &Options, venv: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, repetitions) = if options.quick { (1, 5) } else { (3, 15) };
    let mut table = Table::new(["two gradients added", "1e6, ms", "1e6, MiB", "1e7, ms", "1e7, MiB"]);
    let names =
        ["two threads (spheres)", "two ranks in one process", "gloo all_reduce", "DDP", "DDP, gradients as views"];
    let mut costs: Vec<Vec<Cost>> = Vec::new();
    for n in [1_000_000, 10_000_000] {
        let mut cost: Vec<Cost> = names.iter().map(|_| Cost::default()).collect();
        let gradients: Vec<Vec<f32>> = (1..=2).map(|i| (0..n).map(|at| (at % 64 * i) as f32).collect()).collect();
        for _ in 0..rounds {
            // Turn by turn, so that all see the same machine.
            let mut spheres = SphereHierarchy::new(SphereConfig { threads: Some(2), ..SphereConfig::default() })?;
            for _ in 0..repetitions {
                let start = Instant::now();
                let sum = spheres.run(&Given { n }, &gradients)?;
                cost[0].wall_ms.push(1e3 * start.elapsed().as_secs_f64());
                cost[0].extra_mib = sum.statistics.buffer_bytes as f64 / f64::from(1 << 20);
                ensure!(sum.gradient[63] == 189.0, "the sum is wrong");
                spheres.recycle(sum.gradient);
            }
            let times = ranks(&gradients, repetitions)?;
            cost[1].wall_ms.extend(times.0);
            cost[1].extra_mib = times.1;
            for line in gloo(venv, n, repetitions)? {
                let value = |key: &str| line[key].as_f64().with_context(|| format!("no `{key}` in the peer's {line}"));
                let place = match line["method"].as_str() {
                    Some("all_reduce") => 2,
                    Some("ddp") => 3,
                    Some("ddp_view") => 4,
                    _ => continue,
                };
                // The backward pass of the peer's module is not its own doing.
                cost[place].wall_ms.push(1e3 * (value("wall_s")? - value("local_wall_s")?));
                cost[place].extra_mib = 2.0 * value("held_mib")?;
            }
        }
        costs.push(cost);
    }
    let median_of = |cost: &Cost| median(cost.wall_ms.clone());
    for (place, name) in names.iter().enumerate() {
        let cells = costs.iter().flat_map(|cost| [median_of(&cost[place]), cost[place].extra_mib]);
        table.row(name, cells.map(|x| Some(format!("{x:.2}"))));
    }
    table.print(options);
    for (cost, size) in costs.iter().zip(["1e6", "1e7"]) {
        report.keep(&format!("two_threads_{size}_ms"), median_of(&cost[0]))?;
        report.keep(&format!("two_ranks_{size}_ms"), median_of(&cost[1]))?;
        report.keep(&format!("gloo_{size}_ms"), median_of(&cost[2]))?;
        report.keep(&format!("ddp_{size}_ms"), median_of(&cost[3]))?;
    }
    Ok(())
}

/// Milliseconds of each sum over two ranks, each a thread, and the MiB that they hold besides their gradients.
fn ranks(gradients: &[Vec<f32>], repetitions: usize) -> anyhow::Result<(Vec<f64>, f64)> {
    let work = |collective: InProcess| -> anyhow::Result<(Vec<f64>, f64)> {
        let mine = std::slice::from_ref(&gradients[collective.rank()]);
        let mut spheres = SphereHierarchy::new(SphereConfig { threads: Some(1), ..SphereConfig::default() })?;
        let (mut times, mut held) = (Vec::new(), 0);
        for _ in 0..repetitions {
            collective.barrier()?;
            let start = Instant::now();
            let sum = spheres.run_on(&collective, &Given { n: mine[0].len() }, mine)?;
            collective.barrier()?;
            times.push(1e3 * start.elapsed().as_secs_f64());
            held = sum.statistics.buffer_bytes;
            spheres.recycle(sum.gradient);
        }
        Ok((times, 2.0 * held as f64 / f64::from(1 << 20)))
    };
    std::thread::scope(|scope| {
        let ranks: Vec<_> = InProcess::group(2).into_iter().map(|rank| scope.spawn(|| work(rank))).collect();
        let found: Vec<_> = ranks.into_iter().map(|rank| rank.join()).collect();
        found.into_iter().next().context("no rank")?.map_err(|_| anyhow::anyhow!("a rank panicked"))?
    })
}

/// What the peer prints of one size.
fn gloo(venv: &Path, n: usize, repetitions: usize) -> anyhow::Result<Vec<serde_json::Value>> {
    let script = "ddp_gloo.py";
    let mut command = peer_command(venv, script);
    command.args(["--elements", &n.to_string(), "--repetitions", &repetitions.to_string()]);
    let output = command.output().with_context(|| format!("cannot run {script}"))?;
    ensure!(output.status.success(), "the peer failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("the peer printed `{line}`"))).collect()
}
