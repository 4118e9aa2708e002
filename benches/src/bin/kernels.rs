//! Every kernel on one thread: its speed with each instruction set that the processor offers, which is what the unsafe code
//! earns, and beside the crate `gemm` where it is a matrix product.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use krystal_benches::{Options, Report, Routine, Table, cpu_seconds, kernel_cases, median};
use krystal_lm::kernels::cpu::Cpu;
use serde_json::{Map, Value};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Time the kernels with the instruction set of this process and print the numbers.
    #[arg(long, hide = true)]
    child: bool,
}

/// Instruction sets, best first: name in reports, value of `KRYSTAL_SIMD`.
const LEVELS: [(&str, &str); 3] = [("avx512", ""), ("avx2", "avx2"), ("portable", "portable")];

fn main() -> anyhow::Result<()> {
    let Arguments { options, child } = Arguments::parse();
    if child {
        return time_all(options.quick);
    }
    let levels = match Cpu::instruction_set() {
        "AVX-512" => &LEVELS[..],
        "AVX2" => &LEVELS[1..],
        _ => &LEVELS[2..],
    };
    // A process detects its instruction set once, so each level has processes of its own; interleaved, so that all see the
    // same machine.
    let mut samples: BTreeMap<(String, &str), Vec<f64>> = BTreeMap::new();
    let mut order = Vec::new();
    for _ in 0..if options.quick { 1 } else { 3 } {
        for (level, setting) in levels {
            for (name, value) in time_in_child(setting, options.quick)? {
                if !order.contains(&name) {
                    order.push(name.clone());
                }
                samples.entry((name, level)).or_default().push(value.as_f64().context("expected a number")?);
            }
        }
    }
    let mut report = Report::default();
    let mut table =
        Table::new(["kernel", "unit", "best", "AVX2", "portable", "best / portable", "gemm", "gemm^T", "best / gemm"]);
    let speed = |name: &str, level| samples.get(&(name.to_owned(), level)).map(|values| median(values.clone()));
    let best = levels[0].0;
    for name in order.iter().filter(|name| !name.contains(".gemm")) {
        let ours = speed(name, best).context("the best level was not timed")?;
        let (avx2, portable) = (speed(name, "avx2"), speed(name, "portable"));
        let over_portable = portable.map(|portable| ours / portable);
        // Beside our best stands what gemm chooses for the same processor, in its better orientation.
        let gemm = [".gemm", ".gemm_transposed"].map(|suffix| speed(&format!("{name}{suffix}"), best));
        let over_gemm = gemm[0].zip(gemm[1]).map(|(as_written, transposed)| ours / as_written.max(transposed));
        report.keep(name, ours)?;
        for (suffix, value) in [
            ("avx2", avx2),
            ("portable", portable),
            ("over_portable", over_portable),
            ("gemm", gemm[0]),
            ("gemm_transposed", gemm[1]),
            ("ratio", over_gemm),
        ] {
            if let Some(value) = value {
                report.keep(&format!("{name}.{suffix}"), value)?;
            }
        }
        let (label, unit) = name.rsplit_once('.').context("expected a unit at the end of the name")?;
        let number = |value: Option<f64>| {
            value.map(|value| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") })
        };
        let cells = [Some(ours), avx2, portable, over_portable, gemm[0], gemm[1], over_gemm].map(number);
        table.row(label, std::iter::once(Some(unit.to_owned())).chain(cells));
    }
    table.print(&options);
    report.close(&options);
    Ok(())
}

fn time_in_child(setting: &str, quick: bool) -> anyhow::Result<Map<String, Value>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--child").env_remove("KRYSTAL_SIMD");
    if quick {
        command.arg("--quick");
    }
    if !setting.is_empty() {
        command.env("KRYSTAL_SIMD", setting);
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "timing the kernels failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("expected an object of numbers")
}

/// Times every case and prints an object of units of work per second by name.
fn time_all(quick: bool) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let (samples, seconds) = if quick { (3, 0.002) } else { (9, 0.008) };
    let is_best = std::env::var_os("KRYSTAL_SIMD").is_none();
    let is_portable = Cpu::instruction_set() == "portable";
    let mut numbers = Map::new();
    for case in kernel_cases()? {
        // Without fused multiply-add in hardware these take minutes and say nothing that the smaller cases do not.
        if is_portable && (matches!(case.unit, "token" | "draw") || case.work > 1e9) {
            continue;
        }
        let (unit, scale) = match case.unit {
            "flop" => ("gflop_per_s", 1e-9),
            "element" => ("gelement_per_s", 1e-9),
            "draw" => ("draws_per_s", 1.0),
            _ => ("tokens_per_s", 1.0),
        };
        let name = format!("{}.{}.{unit}", case.kernel, case.shape);
        let mut routines = vec![(name.clone(), case.ours)];
        // gemm chooses its instruction set itself, so beside our lesser ones it would say nothing.
        if let Some([as_written, transposed]) = case.gemm.filter(|_| is_best) {
            routines.push((format!("{name}.gemm"), as_written));
            routines.push((format!("{name}.gemm_transposed"), transposed));
        }
        let calls: Vec<u32> = routines.iter_mut().map(|(_, routine)| calls_for(routine, seconds)).collect();
        let mut times = vec![Vec::new(); routines.len()];
        let start = Instant::now();
        for taken in 0..samples {
            if taken >= 3 && start.elapsed().as_secs_f64() > 0.5 {
                break;
            }
            for (((_, routine), calls), times) in routines.iter_mut().zip(&calls).zip(&mut times) {
                times.push(time(routine, *calls));
            }
        }
        for ((name, _), times) in routines.into_iter().zip(times) {
            numbers.insert(name, Value::from(scale * case.work / median(times)));
        }
    }
    println!("{}", Value::Object(numbers));
    Ok(())
}

/// Calls that take about `seconds`, after one that warms up.
fn calls_for(routine: &mut Routine, seconds: f64) -> u32 {
    let first = time(routine, 1);
    let once = if first < seconds { time(routine, 1) } else { first };
    (seconds / once.max(1e-7)).clamp(1.0, 1e6) as u32
}

/// Seconds of processor time per call, which on one thread other work on the machine changes least.
fn time(routine: &mut Routine, calls: u32) -> f64 {
    let start = cpu_seconds();
    for _ in 0..calls {
        routine();
    }
    (cpu_seconds() - start) / f64::from(calls)
}
