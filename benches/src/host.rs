//! What this process used, and what it runs on.

use std::fs;
use std::process::Command;

use krystal_lm::kernels::cpu::Cpu;
use rustix::time::{ClockId, clock_gettime};

/// Seconds of processor time that all threads of this process used so far (user and system).
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Processor time (s) of this thread.
pub fn thread_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The most memory (MiB) that this process held at once; `None` where the system has no `/proc`.
pub fn peak_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// One line: processor, cores, instruction set, load before the run, compiler and commit, as far as they can be known.
pub fn describe_host() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
        Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parts = vec![format!(
        "{}, {cores} cores, {} kernels",
        model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        Cpu::instruction_set()
    )];
    if let Some(load) = fs::read_to_string("/proc/loadavg").ok().as_deref().and_then(|text| text.split(' ').next()) {
        parts.push(format!("load {load}"));
    }
    if let Some(version) = first_line("rustc", &["--version"]) {
        parts.push(version.split(" (").next().unwrap_or_default().to_owned());
    }
    if let Some(commit) = first_line("git", &["rev-parse", "--short", "HEAD"]) {
        // Recording a benchmark changes its page, which changes no measurement.
        let changed = ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs"];
        let suffix = if first_line("git", &changed).is_some() { " with changes" } else { "" };
        parts.push(format!("commit {commit}{suffix}"));
    }
    format!("Machine: {}.", parts.join("; "))
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_processor_time() {
        let before = cpu_seconds();
        let mut sum = 0.0_f64;
        while cpu_seconds() - before < 0.002 {
            sum += std::hint::black_box(1.0);
        }
        assert!(sum > 0.0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_was_held_is_remembered() {
        let held = vec![1_u8; 64 << 20];
        std::hint::black_box(&held);
        drop(held);
        assert!(peak_mib().is_some_and(|mib| mib >= 64.0), "{:?}", peak_mib());
    }
}
