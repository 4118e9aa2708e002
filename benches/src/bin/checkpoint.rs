//! What the frame, the checksum and the renaming of `krystal-checkpoint` cost beside a bare write and sync of as many bytes.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::time::Instant;

use clap::Parser;
use krystal_benches::{Options, Report, Table, median};
use krystal_checkpoint::{load, save};

#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let (mib, rounds) = if options.quick { (4, 3) } else { (64, 9) };
    let state: Vec<f32> = (0..mib << 18).map(|i| (i as f32).sqrt()).collect();
    let bytes: Vec<u8> = state.iter().flat_map(|value| value.to_le_bytes()).collect();
    let directory = tempfile::tempdir()?;
    let (framed, bare) = (directory.path().join("framed"), directory.path().join("bare"));

    // Interleaved, so that both see the same disk.
    let (mut saves, mut loads, mut writes, mut reads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        save(&framed, "bench", 1, &state)?;
        saves.push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut file = File::create(&bare)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        writes.push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let loaded: Vec<f32> = load(&framed, "bench", 1)?;
        loads.push(start.elapsed().as_secs_f64());
        anyhow::ensure!(loaded == state, "what was loaded is not what was saved");

        let start = Instant::now();
        let read = fs::read(&bare)?;
        reads.push(start.elapsed().as_secs_f64());
        anyhow::ensure!(read == bytes, "what was read is not what was written");
    }

    let size = mib as f64;
    let mut report = Report::default();
    let mut table = Table::new(["what", "MiB/s", "bare, MiB/s", "ratio"]);
    for (name, ours, bare) in [("save", median(saves), median(writes)), ("load", median(loads), median(reads))] {
        report.keep(&format!("{name}.mib_per_s"), size / ours)?;
        report.keep(&format!("{name}.ratio"), bare / ours)?;
        let cells = [format!("{:.0}", size / ours), format!("{:.0}", size / bare), format!("{:.2}", bare / ours)];
        table.row(&format!("{name} of {mib} MiB"), cells.map(Some));
    }
    table.print(&options);
    report.keep("mib", size)?;
    report.close(&options);
    Ok(())
}
