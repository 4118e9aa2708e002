//! The engine on the system's MPI: this program starts itself again as the ranks of several jobs.

use std::convert::Infallible;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use sphere_hierarchy::collective::{Collective, InProcess, Mpi, conformance, gather_by_doubling};
use sphere_hierarchy::{
    Accumulation, Attempt, Error, GradientWorker, OuterConfig, OuterExchange, OuterOptimizer, SphereConfig,
    SphereHierarchy, share,
};

/// What every rank of a job does.
type Task = fn(&mut Mpi) -> Result<(), String>;

/// What must succeed on any number of ranks.
const TASKS: [(&str, Task); 5] = [
    ("conformance", conformance),
    ("conformance_in_parts", conformance_in_parts),
    ("doubling", doubling),
    ("outer_steps", outer_steps),
    ("same_bits", same_bits),
];

/// How many ranks the jobs have.
const SIZES: [usize; 4] = [1, 2, 4, 7];

/// The job whose rank 0 leaves while the others wait for it.
const DESERTION: &str = "desertion";

fn conformance(mpi: &mut Mpi) -> Result<(), String> {
    conformance::check(mpi)
}

/// Messages that MPI cannot count go in parts; so do shorter ones here.
fn conformance_in_parts(mpi: &mut Mpi) -> Result<(), String> {
    mpi.set_largest_message(1_000);
    conformance::check(mpi)
}

/// The all-gather of small buffers gives what the engine's own gives.
fn doubling(mpi: &mut Mpi) -> Result<(), String> {
    let counts: Vec<usize> = (0..mpi.size()).map(|rank| rank * 7 % 4 * 10).collect();
    let mine = vec![mpi.rank() as f32; counts[mpi.rank()]];
    let mut expected = vec![-1.0; counts.iter().sum()];
    let mut found = vec![-2.0; expected.len()];
    mpi.gather_segments(&mine, &mut expected, &counts).map_err(|error| error.to_string())?;
    gather_by_doubling(mpi, &mine, &mut found, &counts).map_err(|error| error.to_string())?;
    if expected == found { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) }
}

/// Leaves of numbers of mixed sign and magnitude: every other order of additions shows.
struct Leaves(usize);

impl GradientWorker for Leaves {
    type Batch = usize;
    type Element = f32;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        self.0
    }

    fn weight(&self, leaf: &usize) -> f32 {
        1.0 / (leaf % 5 + 1) as f32
    }

    fn gradient(&self, leaf: &usize, _: &Attempt<'_>, out: &mut [f32]) -> Result<(), Infallible> {
        for (at, out) in out.iter_mut().enumerate() {
            let x = (leaf * 7_919 + at * 104_729) % 65_521;
            *out = (x as f32 - 32_760.5) * 2.0_f32.powi((x % 13) as i32 - 6);
        }
        Ok(())
    }
}

/// The sum over ranks has the bits of the sum on one, for gradients that are gathered whole and that are exchanged in segments.
fn same_bits(mpi: &mut Mpi) -> Result<(), String> {
    for (n_leaves, n) in [(1, 9), (5, 100_000), (30, 50), (157, 3_000), (144, 200_000)] {
        for accumulation in [Accumulation::Plain, Accumulation::Compensated] {
            for (threads, depth) in [(1, Some(0)), (2, None), (3, Some(1))] {
                let config = SphereConfig { threads: Some(threads), depth, accumulation, ..SphereConfig::default() };
                let mut spheres = SphereHierarchy::new(config).map_err(|error| error.to_string())?;
                let all: Vec<usize> = (0..n_leaves).collect();
                let expected = spheres.run(&Leaves(n), &all).map_err(|error| error.to_string())?;
                let mine = &all[share(n_leaves, mpi.rank(), mpi.size())];
                let found = spheres.run_on(mpi, &Leaves(n), mine).map_err(|error| error.to_string())?;
                let bits = |gradient: &[f32]| gradient.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                if bits(&found.gradient) != bits(&expected.gradient) || found.norm != expected.norm {
                    return Err(format!("{n_leaves} leaves of {n}, {accumulation:?}, {threads} threads: other bits"));
                }
            }
        }
    }
    Ok(())
}

/// Outer steps end with the bits they have on ranks that are threads.
fn outer_steps(mpi: &mut Mpi) -> Result<(), String> {
    for exchange in [OuterExchange::F32, OuterExchange::Int8 { error_feedback: true }] {
        let found = trained(mpi, exchange)?;
        let group = InProcess::group(mpi.size()).into_iter();
        let expected = thread::scope(|scope| {
            let threads: Vec<_> = group.map(|rank| scope.spawn(move || trained(&rank, exchange))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a rank")).collect::<Result<Vec<_>, _>>()
        })?;
        if expected.iter().any(|expected| *expected != found) {
            return Err(format!("{exchange:?}: other bits than on threads"));
        }
    }
    Ok(())
}

/// Bits of parameters after outer steps between which each rank moves them its own way.
fn trained(collective: &dyn Collective, exchange: OuterExchange) -> Result<Vec<u32>, String> {
    let wave = |seed: usize, index: usize| ((index * 7 + seed * 13) as f32 * 12.989_8).sin();
    let mut parameters: Vec<f32> = (0..1_003).map(|index| wave(99, index)).collect();
    let config = OuterConfig::default().with_exchange(exchange);
    let mut outer = OuterOptimizer::new(config, &parameters).map_err(|error| error.to_string())?;
    for step in 0..5 {
        for (index, parameter) in parameters.iter_mut().enumerate() {
            *parameter += 0.1 * wave(step * 10 + collective.rank(), index);
        }
        outer.step(collective, &mut parameters).map_err(|error| error.to_string())?;
    }
    Ok(parameters.iter().map(|parameter| parameter.to_bits()).collect())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--task", task] => rank(task),
        // How nextest asks for the names of tests.
        ["--list", .., "--ignored"] => ExitCode::SUCCESS,
        ["--list", ..] => {
            println!("jobs: test");
            ExitCode::SUCCESS
        }
        _ => jobs(),
    }
}

/// One rank of a job.
fn rank(task: &str) -> ExitCode {
    let mut mpi = match Mpi::start() {
        Ok(mpi) => mpi,
        Err(error) => return failed(&error.to_string()),
    };
    if !matches!(Mpi::start(), Err(Error::Mpi { .. })) {
        return failed("MPI was started twice");
    }
    let result = match TASKS.iter().find(|(name, _)| *name == task) {
        Some((_, work)) => work(&mut mpi),
        None if task == DESERTION && mpi.rank() == 0 => return ExitCode::SUCCESS,
        None if task == DESERTION => Err(format!("the barrier ended with {:?}", mpi.barrier())),
        None => Err("there is no such task".to_owned()),
    };
    match result {
        Ok(()) => {
            mpi.finish();
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("{task} on rank {} of {}: {error}", mpi.rank(), mpi.size())),
    }
}

fn failed(what: &str) -> ExitCode {
    eprintln!("error: {what}");
    ExitCode::FAILURE
}

/// All jobs, one after another.
fn jobs() -> ExitCode {
    if Command::new("mpirun").arg("--version").output().is_err() {
        println!("skipped: tests of MPI: mpirun is not here");
        return ExitCode::SUCCESS;
    }
    for (task, _) in TASKS {
        for size in SIZES {
            let started = Instant::now();
            let (succeeded, output) = job(task, size);
            println!(
                "test {task} on {size} ranks ... {} ({:.1?})",
                if succeeded { "ok" } else { "FAILED" },
                started.elapsed()
            );
            if !succeeded {
                return failed(&output);
            }
        }
    }
    let started = Instant::now();
    let (succeeded, output) = job(DESERTION, 3);
    if succeeded || output.contains("the barrier ended") || started.elapsed() > Duration::from_secs(60) {
        return failed(&format!("a job that a rank left should end and fail: {output}"));
    }
    println!("test a rank that leaves ends the job ... ok ({:.1?})", started.elapsed());
    println!("test result: ok. {} passed; 0 failed", TASKS.len() * SIZES.len() + 1);
    ExitCode::SUCCESS
}

/// Runs `task` on `size` ranks of this machine; whether it succeeded and what was said.
fn job(task: &str, size: usize) -> (bool, String) {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new("mpirun")
        .args(["-n", &size.to_string()])
        .arg(program)
        .args(["--task", task])
        // Containers are often root, and have fewer cores than there are ranks; Open MPI 4 and 5 must be told that we know.
        .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
        .envs([("PRTE_ALLOW_RUN_AS_ROOT", "1"), ("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
        // Ranks without a core of their own must not spin while they wait.
        .env("OMPI_MCA_mpi_yield_when_idle", "1")
        // A job that hangs is a failure, not a test that never ends.
        .env("MPIEXEC_TIMEOUT", "300")
        .output()
        .expect("mpirun, which was here a moment ago");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
