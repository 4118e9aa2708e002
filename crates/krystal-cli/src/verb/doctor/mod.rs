//! `krystal doctor`: what this machine has.

mod sum_check;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use krystal::lm::kernels::cpu::Cpu;
use krystal::lm::kernels::{Kernels, Write};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::hosted::detected;
use crate::terminal::Terminal;

/// Time for one measurement.
const MEASURE: Duration = Duration::from_millis(300);
/// How long another program may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Flags of `krystal doctor`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal doctor
  krystal doctor --json

The sum check adds random gradients of mixed magnitude by 1, 2 and all threads, and compares with their exact sum: where the bits
differ or the error is beyond its bound, this machine must not be trained on, and the exit code is 1.

Nothing else here is needed to train, generate or score: Python is for checking this program's files with other people's software.")]
pub(crate) struct Options {
    /// Folder that run directories would be made in
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) runs: PathBuf,
}

/// One line of the report.
struct Finding {
    name: &'static str,
    /// Whether the feature that needs it works; `None` for plain facts.
    works: Option<bool>,
    text: String,
    value: Value,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    let mut findings = machine();
    findings.push(speed(terminal));
    findings.push(sum_check::finding()?);
    findings.push(writable(&options.runs));
    findings.push(mpi());
    findings.push(hosted_models());
    findings.push(fixtures());
    findings.push(accelerator());
    findings.push(python());
    for finding in &findings {
        let mark = match finding.works {
            Some(true) => "ok",
            Some(false) => "--",
            None => "  ",
        };
        terminal.line(&format!("{mark:2} {:16} {}", finding.name, finding.text));
    }
    let wrong = findings.iter().find(|finding| finding.name == sum_check::NAME && finding.works == Some(false));
    if let Some(Finding { text, .. }) = wrong {
        bail!("{}: {text}", sum_check::NAME);
    }
    let object: Map<String, Value> =
        findings.into_iter().map(|finding| (finding.name.replace(' ', "_"), finding.value)).collect();
    terminal.json(&Value::Object(object));
    Ok(())
}

fn machine() -> Vec<Finding> {
    let fact = |name, text: String, value| Finding { name, works: None, text, value };
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let set = Cpu::instruction_set();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = rayon::current_num_threads();
    let mib = |name| {
        let text = field("/proc/meminfo", name)?;
        text.trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib / 1024)
    };
    let (total, free) = (mib("MemTotal"), mib("MemAvailable"));
    let memory = match (total, free) {
        (Some(total), Some(free)) => format!("{total} MiB, {free} MiB of it available"),
        _ => "not known on this system".to_owned(),
    };
    vec![
        fact("version", env!("CARGO_PKG_VERSION").to_owned(), json!(env!("CARGO_PKG_VERSION"))),
        fact("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH), json!(std::env::consts::OS)),
        fact("cpu", model.clone(), json!(model)),
        fact("instruction set", format!("{set} kernels"), json!(set)),
        fact("cores", format!("{cores}, {threads} threads in use"), json!(cores)),
        fact("memory", memory, json!({ "total_mib": total, "available_mib": free })),
    ]
}

/// The first value of a `name : value` file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// Speed of the linear layers that models are made of: 256 rows, 1024 to 1024, in f32.
fn speed(terminal: Terminal) -> Finding {
    const ROWS: usize = 256;
    const WIDTH: usize = 1024;
    let mut progress = terminal.progress("measuring", 0);
    progress.set(0, "matrix products");
    let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect() };
    let weight = Cpu.matrix(&values(WIDTH * WIDTH), WIDTH, WIDTH);
    let x = Cpu.upload(&values(ROWS * WIDTH));
    // Floating-point operations per second of one thread, while others do the same.
    let measure = || {
        let mut y = Cpu.zeros(0);
        Cpu.linear(&x, ROWS, &weight, None, &mut y, Write::Replace);
        let (started, mut products) = (Instant::now(), 0_u32);
        while started.elapsed() < MEASURE || products == 0 {
            Cpu.linear(&x, ROWS, &weight, None, &mut y, Write::Replace);
            products += 1;
        }
        f64::from(products) * 2.0 * (ROWS * WIDTH * WIDTH) as f64 / started.elapsed().as_secs_f64() / 1e9
    };
    let single =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().map_or_else(|_| measure(), |one| one.install(measure));
    let threads = rayon::current_num_threads();
    let all: f64 = (0..threads).into_par_iter().with_max_len(1).map(|_| measure()).sum();
    Finding {
        name: "matrix products",
        works: None,
        text: format!("{single:.0} GFLOP/s on one thread, {all:.0} on {threads}"),
        value: json!({ "one_thread_gflops": single, "all_threads_gflops": all }),
    }
}

fn writable(folder: &Path) -> Finding {
    let path = folder.join(format!(".krystal-doctor-{}", std::process::id()));
    let tried = std::fs::write(&path, b"krystal").and_then(|()| std::fs::remove_file(&path));
    let works = tried.is_ok();
    let text = match tried {
        Ok(()) => format!("{}: run directories can be made here", folder.display()),
        Err(error) => format!("{}: cannot write ({error}); choose another folder with --run-dir", folder.display()),
    };
    Finding { name: "run directory", works: Some(works), text, value: json!(works) }
}

/// Keys by the names of their variables alone.
fn hosted_models() -> Finding {
    let (works, text, value) = detected();
    Finding {
        name: "hosted models",
        works: Some(works),
        text: format!("{text} (only for --provider, --judge, --teacher)"),
        value,
    }
}

fn fixtures() -> Finding {
    let folder = std::env::var_os("KRYSTAL_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let works = folder.join("fixtures").is_dir();
    let text = match works {
        true => format!("{}: tests compare with recorded answers", folder.display()),
        false => "not here: tests that compare with recorded answers are skipped (KRYSTAL_SHARED names their folder)"
            .to_owned(),
    };
    Finding { name: "fixtures", works: Some(works), text, value: json!(works) }
}

fn accelerator() -> Finding {
    let found = answer("nvidia-smi", &["--query-gpu=name,memory.total", "--format=csv,noheader"]);
    let text = match &found {
        Some(name) => format!("{}; not used: this version computes on the CPU alone", name.replace('\n', ", ")),
        None => "none found; this version computes on the CPU alone".to_owned(),
    };
    Finding { name: "accelerator", works: None, text, value: json!(found) }
}

/// Only for training on several machines.
fn mpi() -> Finding {
    let version = answer("mpirun", &["--version"]).and_then(|text| text.lines().next().map(str::to_owned));
    let built = cfg!(feature = "mpi");
    let built_text = if built { "this krystal can use it" } else { "this krystal was built without the feature `mpi`" };
    let found = version.clone().unwrap_or_else(|| "mpirun not found".to_owned());
    Finding {
        name: "MPI",
        works: Some(built && version.is_some()),
        text: format!("{found}; {built_text} (only to train on several machines)"),
        value: json!({ "mpirun": version, "feature": built }),
    }
}

fn python() -> Finding {
    const PACKAGES: [&str; 4] = ["torch", "transformers", "peft", "trl"];
    const SCRIPT: &str = "\
import importlib.metadata, json, platform, sys
found = {'python': platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))";
    let mut arguments = vec!["-c", SCRIPT];
    arguments.extend(PACKAGES);
    let found = answer("python3", &arguments).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let Some(found) = found else {
        let text = "python3 not found: adapters cannot be checked with Python's peft here (nothing else needs it)";
        return Finding { name: "python", works: Some(false), text: text.to_owned(), value: Value::Null };
    };
    let text = |name: &str| match found[name].as_str() {
        Some(version) => format!("{name} {version}"),
        None => format!("{name} missing"),
    };
    let works = found["peft"].is_string() && found["transformers"].is_string();
    let packages = PACKAGES.map(text).join(", ");
    let missing = if works { "" } else { " (only to check files with other people's software)" };
    Finding {
        name: "python",
        works: Some(works),
        text: format!("{}, {packages}{missing}", text("python")),
        value: found,
    }
}

/// What a program prints, if it is there, succeeds and is done in time.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                // It may have ended in between, which is as good.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    let output = child.wait_with_output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .filter(|text| !text.is_empty())
}
