//! What publishing a snapshot costs the writer, and what it costs readers meanwhile.
//!
//! The modules are those of a decoder of 3 million parameters: 4 blocks, `d_model` 256, 8 heads of which 4 for keys and values,
//! `d_ff` 688; ranks 64/32/16/8/4, at most a quarter of a module's narrower side.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use dynlora_core::{
    AgentId, ContentHash, ContentHasher, FactorAddress, LayerChange, LayerFactors, LayerOwner, Level, ModuleFactors,
    ModuleShape, SnapshotPublisher, SnapshotReader,
};
use krystal_benches::{Options, Report, Table, median};
use serde_json::json;

#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

const N_AGENTS: u64 = 1000;

fn shapes() -> Vec<ModuleShape> {
    let mut shapes = Vec::new();
    for block in 0..4 {
        for (name, d_in, d_out) in [
            ("self_attn.q_proj", 256, 256),
            ("self_attn.k_proj", 256, 128),
            ("self_attn.v_proj", 256, 128),
            ("self_attn.o_proj", 256, 256),
            ("mlp.gate_proj", 256, 688),
            ("mlp.up_proj", 256, 688),
            ("mlp.down_proj", 688, 256),
        ] {
            shapes.push(ModuleShape { name: format!("model.layers.{block}.{name}"), d_in, d_out });
        }
    }
    shapes
}

/// A layer in which no number is zero, so that every page of it is in memory.
fn layer(level: Level, agent: u64, shapes: &[ModuleShape]) -> LayerFactors {
    let fill = |(module, shape): (usize, &ModuleShape)| {
        let rank = level.nominal_rank().min(shape.d_in.min(shape.d_out) / 4);
        let mut pair = ModuleFactors::fresh(shape, rank, FactorAddress { seed: 7, level, agent, module });
        pair.b.iter_mut().zip(1..).for_each(|(b, i)| *b = (agent + i) as f32);
        Arc::new(pair)
    };
    shapes.iter().enumerate().map(fill).collect()
}

/// Writes one number of every module: what a snapshot holds is copied.
fn touch(layer: &mut LayerFactors, round: usize) {
    for pair in layer {
        Arc::make_mut(pair).b[0] = 1.0 + round as f32;
    }
}

fn milliseconds(start: Instant) -> f64 {
    1e3 * start.elapsed().as_secs_f64()
}

/// Bytes of this process in memory now.
fn resident_bytes() -> anyhow::Result<f64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("this benchmark measures memory on Linux only")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/self/status")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(1024.0 * kib)
}

/// The 99th percentile of the nanoseconds that loading a snapshot takes, the clock included.
fn reader_p99(reader: &SnapshotReader, loads: usize) -> f64 {
    let mut times: Vec<u64> = Vec::with_capacity(loads);
    for _ in 0..loads {
        let start = Instant::now();
        black_box(reader.load());
        times.push(start.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    times[times.len() * 99 / 100] as f64
}

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let (rounds, loads, n_agents) = if options.quick { (5, 20_000, 20) } else { (41, 400_000, N_AGENTS) };
    let shapes = shapes();
    let mut shared = Level::SHARED.map(|level| layer(level, 0, &shapes));
    let mut private = Level::PRIVATE.map(|level| layer(level, 0, &shapes));
    let base = ContentHash::of_bytes(b"base");
    let [foundation, domain, swarm] = &shared;
    let mut publisher = SnapshotPublisher::new(base, &json!({}), shapes.clone().into(), [foundation, domain, swarm])?;
    let agent = AgentId(0);
    let begin = [
        LayerChange::private(Level::Agent, agent, &private[0]),
        LayerChange::private(Level::Context, agent, &private[1]),
    ];
    publisher.publish(&begin, &[])?;

    let mut report = Report::default();
    let mut table = Table::new(["what", "parameters", "ms"]);
    let parameters = |layer: &LayerFactors| layer.iter().map(|pair| pair.num_parameters()).sum::<usize>();

    // One layer at a time, all of it written to.
    let mut worst = 0.0_f64;
    for level in Level::ALL {
        let mut times = Vec::with_capacity(rounds);
        let mut size = 0;
        for round in 0..rounds {
            let layer = match level.is_shared() {
                true => &mut shared[level.index()],
                false => &mut private[level.index() - 3],
            };
            touch(layer, round);
            size = parameters(layer);
            let start = Instant::now();
            publisher.publish(&[LayerChange { owner: LayerOwner { level, agent }, factors: layer }], &[])?;
            times.push(milliseconds(start));
        }
        let time = median(times);
        worst = worst.max(time);
        report.keep(&format!("publish_{level}_ms"), time)?;
        table.row(&format!("publish the {level} layer"), [Some(size.to_string()), Some(format!("{time:.3}"))]);
    }
    report.keep("publish_one_layer_ms", worst)?;

    // One module of the widest layer: what a migration touches.
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        Arc::make_mut(&mut shared[0][5]).b[0] = -1.0 - round as f32;
        let start = Instant::now();
        publisher.publish(&[LayerChange::shared(Level::Foundation, &shared[0])], &[])?;
        times.push(milliseconds(start));
    }
    let time = median(times);
    report.keep("publish_one_module_ms", time)?;
    let size = shared[0][5].num_parameters();
    table.row("publish one module", [Some(size.to_string()), Some(format!("{time:.3}"))]);

    // All five layers; and what the seeds do, copying all of them for every request.
    let whole: usize = shared.iter().chain(&private).map(parameters).sum();
    let (mut times, mut copies) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds {
        shared.iter_mut().chain(&mut private).for_each(|layer| touch(layer, rounds + round));
        let changes: Vec<LayerChange<'_>> = Level::ALL
            .into_iter()
            .zip(shared.iter().chain(&private))
            .map(|(level, factors)| LayerChange { owner: LayerOwner { level, agent }, factors })
            .collect();
        let start = Instant::now();
        let snapshot = publisher.publish(&changes, &[])?;
        times.push(milliseconds(start));
        let start = Instant::now();
        let layers = Level::ALL.map(|level| {
            let layer = snapshot.layer(level, agent).into_iter().flatten();
            layer.map(|pair| ModuleFactors::clone(pair)).collect::<Vec<_>>()
        });
        black_box(&layers);
        copies.push(milliseconds(start));
    }
    let (all, copy) = (median(times), median(copies));
    report.keep("publish_all_ms", all)?;
    report.keep("clone_whole_ms", copy)?;
    table.row("publish all five", [Some(whole.to_string()), Some(format!("{all:.3}"))]);
    table.row("copy all five, as the seeds do", [Some(whole.to_string()), Some(format!("{copy:.3}"))]);

    // Digests alone, of numbers that are in no cache of the processor.
    let values: Vec<f32> = (0..16 << 20).map(|i| i as f32).collect();
    let mut times = Vec::new();
    for _ in 0..rounds.min(9) {
        let start = Instant::now();
        black_box(ContentHasher::new("bench").floats(&values).finish());
        times.push(start.elapsed().as_secs_f64());
    }
    let speed = 4e-9 * values.len() as f64 / median(times);
    drop(values);
    report.keep("hash_gb_per_s", speed)?;

    // Readers: alone, then beside a writer that publishes the swarm layer without pause.
    let reader = publisher.reader();
    let mut waits = [Vec::new(), Vec::new()];
    let mut published = 0_usize;
    for _ in 0..if options.quick { 1 } else { 5 } {
        waits[0].push(reader_p99(&reader, loads));
        let done = AtomicBool::new(false);
        let (p99, count) = std::thread::scope(|scope| -> anyhow::Result<(f64, usize)> {
            let reading = scope.spawn(|| {
                let p99 = reader_p99(&reader, loads);
                done.store(true, Ordering::Release);
                p99
            });
            let mut count = 0;
            while !done.load(Ordering::Acquire) {
                touch(&mut shared[2], 1000 + published + count);
                publisher.publish(&[LayerChange::shared(Level::Swarm, &shared[2])], &[])?;
                count += 1;
            }
            let p99 = reading.join().map_err(|_| anyhow::anyhow!("the reader stopped"))?;
            Ok((p99, count))
        })?;
        waits[1].push(p99);
        published += count;
    }
    let [idle, writing] = waits.map(median);
    report.keep("reader_p99_ns.idle", idle)?;
    report.keep("reader_p99_ns.writing", writing)?;
    report.keep("publications_beside_reader", published as f64)?;

    // Many agents.
    let before = resident_bytes()?;
    let mut agents: Vec<[LayerFactors; 2]> =
        (1..=n_agents).map(|agent| Level::PRIVATE.map(|level| layer(level, agent, &shapes))).collect();
    let numbers: usize = agents.iter().flatten().map(parameters).sum();
    let changes: Vec<LayerChange<'_>> = (1..)
        .zip(&agents)
        .flat_map(|(agent, layers)| {
            Level::PRIVATE.map(|level| LayerChange::private(level, AgentId(agent), &layers[level.index() - 3]))
        })
        .collect();
    publisher.publish(&changes, &[])?;
    drop(changes);
    let ratio = (resident_bytes()? - before) / (4.0 * numbers as f64);
    report.keep("private_layers_1000_bytes_ratio", ratio)?;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let who = round * 7 % agents.len();
        touch(&mut agents[who][1], round);
        let change = LayerChange::private(Level::Context, AgentId(1 + who as u64), &agents[who][1]);
        let start = Instant::now();
        publisher.publish(&[change], &[])?;
        times.push(milliseconds(start));
    }
    let time = median(times);
    report.keep("publish_1000_agents_one_changed_ms", time)?;
    let size = parameters(&agents[0][1]);
    let name = format!("publish one of {n_agents} agents' context layers");
    table.row(&name, [Some(size.to_string()), Some(format!("{time:.3}"))]);
    table.print(&options);

    let mut readers = Table::new(["reader, 99th percentile", "ns"]);
    readers.row("alone", [Some(format!("{idle:.0}"))]);
    readers.row("beside a writer", [Some(format!("{writing:.0}"))]);
    readers.print(&options);
    let mut others = Table::new(["what else", "value"]);
    others.row("BLAKE3 on one thread, GB/s", [Some(format!("{speed:.2}"))]);
    others.row(&format!("memory of {n_agents} agents' factors, of 4 bytes a number"), [Some(format!("{ratio:.3}"))]);
    others.print(&options);
    report.close(&options);
    Ok(())
}
