//! What a call of a model costs on the client's side: `llm-providers` beside bare reqwest with serde_json, genai and async-openai, at one
//! server on loopback; and how fast streams are decoded.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use krystal_benches::llm::{ANSWER_TEXT, Client, Server, Traffic, VENDORS, events_of};
use krystal_benches::{Options, Report, Table, cpu_seconds, median, thread_cpu_seconds};
use llm_providers::decode::SseDecoder;
use llm_providers::{Endpoint, Protocol, StreamEvent, anthropic, gemini, ollama, openai};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Bytes that a decoder gets at once, as many as the transport reads.
const PIECE: usize = 16 << 10;

fn main() -> anyhow::Result<()> {
    if Server::is_wanted() {
        return Server::serve();
    }
    let Arguments { options } = Arguments::parse();
    let mut report = Report::default();
    decoders(&options, &mut report)?;
    let server = Server::start()?;
    let clients = Client::all(&server.url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        calls(&options, &clients, &mut report).await?;
        streams(&options, &clients, &mut report).await?;
        open_streams(&options, &clients, &mut report).await
    })?;
    report.close(&options);
    Ok(())
}

fn protocol(vendor: &str) -> anyhow::Result<Box<dyn Protocol>> {
    let endpoint = Endpoint::new("http://127.0.0.1")?;
    Ok(match vendor {
        "anthropic" => Box::new(anthropic::Anthropic::new(endpoint)),
        "gemini" => Box::new(gemini::Gemini::new(endpoint)),
        "ollama" => Box::new(ollama::Ollama::new(endpoint)),
        _ => Box::new(openai::OpenAi::new(endpoint)),
    })
}

/// Seconds that decoding a stream takes, with the count of its deltas and of the allocations.
fn decode(protocol: &dyn Protocol, body: &[u8]) -> anyhow::Result<(f64, usize, usize)> {
    let mut decoder = protocol.decoder();
    let mut events = VecDeque::new();
    let mut n_deltas = 0;
    let before = ALLOCATOR.stats().allocations;
    let start = thread_cpu_seconds();
    for piece in body.chunks(PIECE) {
        decoder.push(piece, &mut events)?;
        while let Some(event) = events.pop_front() {
            n_deltas += usize::from(matches!(black_box(event), StreamEvent::BlockDelta { .. }));
        }
    }
    decoder.finish(&mut events)?;
    let seconds = thread_cpu_seconds() - start;
    Ok((seconds, n_deltas, ALLOCATOR.stats().allocations - before))
}

fn decoders(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (n_deltas, rounds) = if options.quick { (2_000, 3) } else { (40_000, 25) };
    let mut rows: Vec<(String, String, Vec<u8>)> = Vec::new();
    for vendor in VENDORS {
        let key = if vendor == "openai" { "sse".to_owned() } else { vendor.to_owned() };
        rows.push((
            key,
            format!("{vendor}, chunks as the vendor words them"),
            events_of(vendor, n_deltas).into_bytes(),
        ));
    }
    let small = Traffic::Small.events(n_deltas).concat().into_bytes();
    rows.push(("small".to_owned(), "openai, small chunks".to_owned(), small));
    let protocols =
        [&VENDORS[..], &["openai"]].concat().into_iter().map(protocol).collect::<anyhow::Result<Vec<_>>>()?;
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    let mut raw = Vec::new();
    let mut allocations = vec![0; rows.len()];
    // Interleaved, so that all see the same machine; the first round warms up.
    for round in 0..=rounds {
        for (i, (_, name, body)) in rows.iter().enumerate() {
            let (taken, seen, allocated) = decode(&*protocols[i], body)?;
            ensure!(seen == n_deltas, "{name}: {seen} deltas of {n_deltas}");
            allocations[i] = allocated;
            if round > 0 {
                seconds[i].push(taken);
            }
        }
        let (mut sse, mut n_events) = (SseDecoder::new(1 << 20), 0);
        let start = thread_cpu_seconds();
        for piece in rows[0].2.chunks(PIECE) {
            sse.push(piece, |event| {
                n_events += usize::from(!black_box(event).data.is_empty());
                Ok(())
            })?;
        }
        let taken = thread_cpu_seconds() - start;
        ensure!(n_events == n_deltas + 2, "{n_events} events");
        if round > 0 {
            raw.push(taken);
        }
    }
    let mut table = Table::new(["decoding in memory, one core", "MB/s", "deltas/s", "allocations per delta"]);
    let raw = rows[0].2.len() as f64 / 1e6 / best(&raw);
    table.row("events split, not read", [Some(format!("{raw:.0}")), None, None]);
    report.keep("sse_split_mb_per_s", raw)?;
    for (i, (key, name, body)) in rows.iter().enumerate() {
        let seconds = best(&seconds[i]);
        let (mb, deltas) = (body.len() as f64 / 1e6 / seconds, n_deltas as f64 / seconds);
        let per_delta = allocations[i] as f64 / n_deltas as f64;
        let cells = [format!("{mb:.0}"), format!("{:.2} M", deltas / 1e6), format!("{per_delta:.2}")];
        table.row(name, cells.map(Some));
        report.keep(&format!("{key}_mb_per_s"), mb)?;
        report.keep(&format!("{key}_deltas_per_s"), deltas)?;
        report.keep(&format!("{key}_allocations_per_delta"), per_delta)?;
        if key == "small" {
            report.keep("deltas_per_s", deltas)?;
        }
    }
    table.print(options);
    Ok(())
}

/// The shortest of several measurements: other work on the machine only ever takes time away.
fn best(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(f64::INFINITY, f64::min)
}

fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Whole answers of 1 kB, one after another, each client in its turn.
async fn calls(options: &Options, clients: &[(&str, Client)], report: &mut Report) -> anyhow::Result<()> {
    let rounds = if options.quick { 50 } else { 4_000 };
    let mut micros: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut cpu: BTreeMap<&str, f64> = BTreeMap::new();
    let mut allocations: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..rounds + 20 {
        // Whoever comes first finds the server asleep: each is first in its turn.
        for i in 0..clients.len() {
            let (name, client) = &clients[(round + i) % clients.len()];
            let (cpu_start, allocated) = (cpu_seconds(), ALLOCATOR.stats().allocations);
            let start = Instant::now();
            let length = client.complete().await.with_context(|| (*name).to_owned())?;
            let taken = start.elapsed().as_secs_f64() * 1e6;
            ensure!(length == ANSWER_TEXT.len(), "{name}: {length} bytes of text");
            if round >= 20 {
                micros.entry(name).or_default().push(taken);
                *cpu.entry(name).or_default() += cpu_seconds() - cpu_start;
                *allocations.entry(name).or_default() += ALLOCATOR.stats().allocations - allocated;
            }
        }
    }
    let mut table =
        Table::new(["a call, 1 kB answer", "p50 us", "p99 us", "over bare reqwest, p50 us", "CPU us", "allocations"]);
    let bare = micros["reqwest"].clone();
    for (name, _) in clients {
        let paired: Vec<f64> = micros[name].iter().zip(&bare).map(|(a, b)| a - b).collect();
        let (p50, p99) = (quantile(micros[name].clone(), 0.5), quantile(micros[name].clone(), 0.99));
        let (over, cpu) = (median(paired), cpu[name] / rounds as f64 * 1e6);
        let allocated = allocations[name] as f64 / rounds as f64;
        let over_cell = (*name != "reqwest").then(|| format!("{over:+.1}"));
        let number = |x: f64| Some(format!("{x:.1}"));
        table.row(name, [number(p50), number(p99), over_cell, number(cpu), number(allocated)]);
        for (key, value) in
            [("call_p50_us", p50), ("call_p99_us", p99), ("call_cpu_us", cpu), ("call_allocations", allocated)]
        {
            report.keep(&format!("{name}_{key}"), value)?;
        }
        match *name {
            "ours" => report.keep("overhead_p50_us", over)?,
            "reqwest" => {}
            name => report.keep(&format!("{name}_overhead_p50_us"), over)?,
        }
    }
    table.print(options);
    Ok(())
}

/// Streams over the socket, read to their end.
async fn streams(options: &Options, clients: &[(&str, Client)], report: &mut Report) -> anyhow::Result<()> {
    let (n_deltas, rounds) = if options.quick { (500, 3) } else { (5_000, 41) };
    let mut table = Table::new([
        "streams over loopback",
        "deltas per CPU s",
        "MB per CPU s",
        "wall, deltas/s",
        "allocations per delta",
    ]);
    for (kind, traffic) in [("realistic", Traffic::Realistic), ("small", Traffic::Small)] {
        let model = format!("{kind}-{n_deltas}");
        let megabytes = traffic.events(n_deltas).concat().len() as f64 / 1e6;
        let mut cpu: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut wall: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut allocations: BTreeMap<&str, usize> = BTreeMap::new();
        for round in 0..=rounds {
            for i in 0..clients.len() {
                let (name, client) = &clients[(round + i) % clients.len()];
                let (cpu_start, allocated, start) = (cpu_seconds(), ALLOCATOR.stats().allocations, Instant::now());
                let (counted, open) = client.stream(&model, usize::MAX).await.with_context(|| (*name).to_owned())?;
                let (cpu_taken, wall_taken) = (cpu_seconds() - cpu_start, start.elapsed().as_secs_f64());
                drop(open);
                let expected = (n_deltas, Traffic::text_len(n_deltas));
                ensure!((counted.n_deltas, counted.text_len) == expected, "{name}: {counted:?}, expected {expected:?}");
                allocations.insert(name, ALLOCATOR.stats().allocations - allocated);
                if round > 0 {
                    cpu.entry(name).or_default().push(cpu_taken);
                    wall.entry(name).or_default().push(wall_taken);
                }
            }
        }
        for (name, _) in clients {
            let (cpu, wall) = (best(&cpu[name]), best(&wall[name]));
            let (deltas, mb) = (n_deltas as f64 / cpu, megabytes / cpu);
            let per_delta = allocations[name] as f64 / n_deltas as f64;
            let cells = [
                format!("{:.0} k", deltas / 1e3),
                format!("{mb:.0}"),
                format!("{:.0} k", n_deltas as f64 / wall / 1e3),
                format!("{per_delta:.2}"),
            ];
            table.row(&format!("{name}, {kind} chunks"), cells.map(Some));
            report.keep(&format!("{name}_{kind}_stream_deltas_per_s"), deltas)?;
            report.keep(&format!("{name}_{kind}_stream_mb_per_s"), mb)?;
            report.keep(&format!("{name}_{kind}_stream_allocations_per_delta"), per_delta)?;
        }
    }
    table.print(options);
    Ok(())
}

/// Streams whose reader stands still, while the server has 4 MB for each.
async fn open_streams(options: &Options, clients: &[(&str, Client)], report: &mut Report) -> anyhow::Result<()> {
    let n_streams = if options.quick { 4 } else { 50 };
    let held = || {
        let stats = ALLOCATOR.stats();
        stats.bytes_allocated as f64 - stats.bytes_deallocated as f64
    };
    let mut table = Table::new(["an open stream that is not read", "kB held"]);
    for (name, client) in clients {
        let mut open = Vec::new();
        let before = held();
        for _ in 0..n_streams {
            open.push(client.stream("realistic-13000", 5).await.with_context(|| (*name).to_owned())?);
        }
        // Whatever runs in the background has time to read.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let kilobytes = (held() - before) / f64::from(n_streams) / 1e3;
        drop(open);
        table.row(name, [Some(format!("{kilobytes:.0}"))]);
        report.keep(&format!("{name}_open_stream_kb"), kilobytes)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    table.print(options);
    Ok(())
}
