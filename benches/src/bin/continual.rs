//! Does an adapter learn new tasks and keep the old ones? Streams of tasks for a small decoder, methods that learn from them,
//! and paired differences between the methods.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Parser;
use krystal_benches::continual::tuning::{Choice, recorded, tune};
use krystal_benches::continual::{
    Base, Job, Method, Metrics, Record, Settings, Stream, StreamKind, conflict, interval, mean, methods, run_all,
};
use krystal_benches::{Options, Report, Table, median};

/// Streams whose mean is `acc.METHOD`: those with a joint ceiling above what a method without a cue can reach.
const MAIN: [StreamKind; 3] = [StreamKind::Arith, StreamKind::Formal, StreamKind::Strings];
/// Methods that others are compared with, seed by seed.
const REFERENCES: [&str; 2] = ["sequential", "ema2"];

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Streams to run, by name, with commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    streams: Vec<String>,
    /// Methods to run, by name, with commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Seeds to run; 5 if not given, 1 with --quick.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// The learning rate of every method instead of the recorded ones.
    #[arg(long)]
    lr: Option<f64>,
    /// The methods' own number instead of the recorded ones.
    #[arg(long)]
    hyper: Option<f64>,
    /// Chooses learning rates and own numbers anew, on a seed that no result uses, and prints the choices.
    #[arg(long)]
    tune: bool,
    /// Sizes, or numbers of a learner: key=value.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Where the trained base model is kept; the system's temporary folder if not given.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Prints every run's matrix and what its learner noted.
    #[arg(long)]
    verbose: bool,
    /// Threads, each for one run at a time; as many as there are processors if not given.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = &arguments.options;
    let mut settings = Settings::default();
    if options.quick {
        settings.shorten();
    }
    for assignment in &arguments.assignments {
        settings.set(assignment)?;
    }
    let kinds = chosen(&arguments.streams, StreamKind::ALL.to_vec(), |kind| kind.name())?;
    let methods = chosen(&arguments.methods, methods(), |method| method.name)?;
    let threads = match arguments.threads {
        Some(threads) => threads.max(1),
        None => std::thread::available_parallelism().context("how many processors are there?")?.get(),
    };
    let cache = arguments.cache.clone().unwrap_or_else(std::env::temp_dir);
    let base = Base::load_or_train(&settings, &cache)?;
    let mut report = Report::default();
    let known = mean(base.accuracies(&settings).into_iter().map(|(_, accuracy)| accuracy));
    report.keep("base", known)?;
    println!("The base model answers {:.1} % of its own tasks' problems.", 100.0 * known);

    let pairs: Vec<(Method, StreamKind)> = kinds
        .iter()
        .flat_map(|kind| methods.iter().filter(|method| (method.fits)(*kind)).map(|method| (*method, *kind)))
        .collect();
    let mut choices: Vec<Choice> = match arguments.tune {
        true => tune(&base, &pairs, &settings, threads)?,
        false => pairs.iter().map(|(method, kind)| recorded(method, *kind)).collect(),
    };
    for choice in &mut choices {
        choice.learning_rate = arguments.lr.unwrap_or(choice.learning_rate);
        choice.hyper = arguments.hyper.unwrap_or(choice.hyper);
    }
    if arguments.tune {
        for ((method, kind), choice) in pairs.iter().zip(&choices) {
            let Choice { learning_rate, hyper, acc } = choice;
            println!("(\"{}\", \"{}\", {learning_rate:?}, {hyper:?}), // {acc:.3}", method.name, kind.name());
        }
    }

    let seeds = arguments.seeds.unwrap_or(if options.quick { 1 } else { 5 });
    let mut jobs = Vec::new();
    for ((method, kind), choice) in pairs.iter().zip(&choices) {
        let Choice { learning_rate, hyper, .. } = *choice;
        jobs.extend((0..seeds).map(|i| arguments.first_seed + i).map(|seed| Job {
            method: *method,
            kind: *kind,
            seed,
            learning_rate,
            hyper,
        }));
    }
    let records = run_all(&base, &jobs, &settings, threads)?;
    if arguments.verbose {
        jobs.iter().zip(&records).for_each(|(job, record)| print_run(job, record));
    }
    let results: Vec<(&Job, Metrics)> = jobs.iter().zip(&records).map(|(j, r)| (j, Metrics::of(j.kind, r))).collect();
    for kind in &kinds {
        let stream = Stream::draw(*kind, 1, &settings);
        let cosine = conflict(&base, &stream)?;
        println!(
            "`{}`: {} phases, {} steps; mean cosine of the tasks' gradients at the start {}\n",
            kind.name(),
            stream.phases.len(),
            stream.total_steps(),
            cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.2}")),
        );
        if let Some(cosine) = cosine.filter(|cosine| cosine.is_finite()) {
            report.keep(&format!("cosine.{}", kind.name()), cosine)?;
        }
        tables(*kind, &methods, &results, options, &mut report)?;
    }
    summary(&methods, &results, options, &mut report)?;
    step_overhead(&jobs, &records, &mut report)?;
    let seconds: f64 = records.iter().map(|record| record.total_s).sum();
    println!(
        "{} runs of {:.1} s on average, {threads} at a time.",
        records.len(),
        seconds / records.len().max(1) as f64
    );
    report.close(options);
    Ok(())
}

/// Those of `all` that are named, all if none is.
fn chosen<T>(names: &[String], all: Vec<T>, name: impl Fn(&T) -> &'static str) -> anyhow::Result<Vec<T>> {
    let known: Vec<&str> = all.iter().map(&name).collect();
    for wanted in names {
        ensure!(known.contains(&wanted.as_str()), "expected one of {}, found `{wanted}`", known.join(", "));
    }
    Ok(all.into_iter().filter(|one| names.is_empty() || names.iter().any(|n| n == name(one))).collect())
}

/// A metric of a method on a stream, seed by seed.
fn values(
    results: &[(&Job, Metrics)],
    method: &str,
    kind: StreamKind,
    metric: impl Fn(&Metrics) -> Option<f64>,
) -> Vec<f64> {
    let runs = results.iter().filter(|(job, _)| job.method.name == method && job.kind == kind);
    runs.filter_map(|(_, metrics)| metric(metrics)).collect()
}

fn percent(values: &[f64]) -> Option<String> {
    let (centre, half) = interval(values);
    let half = half.map_or_else(String::new, |half| format!(" ± {:.1}", 100.0 * half));
    (!values.is_empty()).then(|| format!("{:.1}{half}", 100.0 * centre))
}

fn differences(values: &[f64], reference: &[f64]) -> Vec<f64> {
    match values.len() == reference.len() {
        true => values.iter().zip(reference).map(|(value, other)| value - other).collect(),
        false => Vec::new(),
    }
}

fn tables(
    kind: StreamKind,
    methods: &[Method],
    results: &[(&Job, Metrics)],
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let stream = kind.name();
    let mut table = Table::new([
        stream,
        "lr",
        "own",
        "ACC",
        "- sequential",
        "- ema2",
        "BWT",
        "forgetting",
        "learned",
        "plasticity",
        "worst",
        "online",
        "recover, steps",
    ]);
    let acc = |name: &str| values(results, name, kind, |m| Some(m.acc));
    let fresh = values(results, "fresh", kind, |m| m.learned);
    for method in methods.iter().filter(|method| (method.fits)(kind)) {
        let name = method.name;
        let Some((job, _)) = results.iter().find(|(job, _)| job.method.name == name && job.kind == kind) else {
            continue;
        };
        let of = |metric: fn(&Metrics) -> Option<f64>| values(results, name, kind, metric);
        let learned = of(|m| m.learned);
        let plasticity = differences(&learned, &fresh);
        let recover = of(|m| m.recover);
        let stages = job.method.protocol == krystal_benches::continual::Protocol::Stream;
        let kept = |values: Vec<f64>| if stages { values } else { Vec::new() };
        let named = [
            (
                "acc",
                if job.method.protocol == krystal_benches::continual::Protocol::Fresh { Vec::new() } else { acc(name) },
            ),
            ("bwt", kept(of(|m| m.bwt))),
            ("forgetting", kept(of(|m| m.forgetting))),
            ("learned", of(|m| m.learned)),
            ("plasticity", kept(plasticity.clone())),
            ("worst", kept(of(|m| m.worst))),
            ("online", of(|m| Some(m.online))),
        ];
        for (metric, values) in &named {
            // A stream of one phase has nothing to forget.
            let mean = mean(values.iter().copied());
            if mean.is_finite() {
                report.keep(&format!("{metric}.{stream}.{name}"), mean)?;
            }
        }
        if !recover.is_empty() {
            report.keep(&format!("recover.{stream}.{name}"), mean(recover.iter().copied()))?;
        }
        let mut compared = Vec::new();
        for reference in REFERENCES {
            let difference = if reference == name { Vec::new() } else { differences(&named[0].1, &acc(reference)) };
            if let (centre, Some(half)) = interval(&difference) {
                report.keep(&format!("minus_{reference}.{stream}.{name}"), centre)?;
                report.keep(&format!("minus_{reference}_ci.{stream}.{name}"), half)?;
            }
            compared.push(percent(&difference));
        }
        let steps = interval(&recover);
        let recover = (!recover.is_empty()).then(|| {
            let half = steps.1.map_or_else(String::new, |half| format!(" ± {half:.1}"));
            format!("{:.1}{half}", steps.0)
        });
        let mut cells = vec![Some(format!("{}", job.learning_rate)), method.hyper.map(|_| format!("{}", job.hyper))];
        cells.push(percent(&named[0].1));
        cells.extend(compared);
        cells.extend(named[1..].iter().map(|(_, values)| percent(values)));
        cells.push(recover);
        let told = if method.boundaries { " (told boundaries)" } else { "" };
        table.row(&format!("{name}{told}"), cells);
    }
    table.print(options);
    Ok(())
}

/// Means over the main streams, and how much of the gap from sequential to joint each method closes.
fn summary(
    methods: &[Method],
    results: &[(&Job, Metrics)],
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    // Seed by seed, so that differences stay paired.
    let main = |name: &str| -> Option<Vec<f64>> {
        let streams: Vec<Vec<f64>> = MAIN.iter().map(|kind| values(results, name, *kind, |m| Some(m.acc))).collect();
        let seeds = streams.iter().map(Vec::len).min().filter(|n| *n > 0)?;
        Some((0..seeds).map(|i| mean(streams.iter().map(|values| values[i]))).collect())
    };
    let mut table = Table::new(["mean of arith, formal, strings", "ACC", "- sequential", "- ema2", "gap closed"]);
    let gap = main("sequential").zip(main("joint"));
    for method in methods {
        if method.protocol == krystal_benches::continual::Protocol::Fresh {
            continue;
        }
        let Some(values) = main(method.name) else { continue };
        report.keep(&format!("acc.{}", method.name), mean(values.iter().copied()))?;
        let compared = REFERENCES.map(|reference| {
            let other = main(reference).filter(|_| reference != method.name);
            other.and_then(|other| percent(&differences(&values, &other)))
        });
        let closed = gap.as_ref().map(|(sequential, joint)| {
            let (low, high) = (mean(sequential.iter().copied()), mean(joint.iter().copied()));
            (mean(values.iter().copied()) - low) / (high - low)
        });
        if let Some(closed) = closed.filter(|closed| closed.is_finite()) {
            report.keep(&format!("gap_closed.{}", method.name), closed)?;
            if method.name == "dynamic" {
                report.keep("gap_closed", closed)?;
            }
        }
        let [sequential, ema2] = compared;
        table.row(method.name, [percent(&values), sequential, ema2, closed.map(|closed| format!("{closed:.2}"))]);
    }
    table.print(options);
    Ok(())
}

/// What a step of `dynamic` costs beside one of `sequential`, both with the model's forward and backward pass: median over streams
/// and seeds.
fn step_overhead(jobs: &[Job], records: &[Record], report: &mut Report) -> anyhow::Result<()> {
    let time = |name: &str, kind: StreamKind, seed: u64| {
        let is_it = |job: &Job| job.method.name == name && job.kind == kind && job.seed == seed;
        jobs.iter().zip(records).find(|(job, _)| is_it(job)).map(|(_, record)| record.learn_s)
    };
    let dynamic = jobs.iter().filter(|job| job.method.name == "dynamic" && MAIN.contains(&job.kind));
    let ratio = |job: &Job| Some(time("dynamic", job.kind, job.seed)? / time("sequential", job.kind, job.seed)?);
    let ratios: Vec<f64> = dynamic.filter_map(ratio).collect();
    if !ratios.is_empty() {
        let overhead = median(ratios) - 1.0;
        report.keep("step_overhead", overhead)?;
        println!("A step of `dynamic` takes {:.0} % more processor time than one of `sequential`.\n", 100.0 * overhead);
    }
    Ok(())
}

fn print_run(job: &Job, record: &Record) {
    println!(
        "{} {} seed {} lr {} own {} ({:.1} s, learning {:.1} s, mean loss {:.3})",
        job.kind.name(),
        job.method.name,
        job.seed,
        job.learning_rate,
        job.hyper,
        record.total_s,
        record.learn_s,
        record.mean_loss
    );
    println!("  {}", record.names.join("; "));
    for (row, task) in record.matrix.iter().zip(&record.schedule) {
        let cells: Vec<String> = row.iter().map(|a| format!("{:4.0}", 100.0 * a)).collect();
        println!("  {task}: {}", cells.join(""));
    }
    for (name, value) in &record.notes {
        println!("  {name}: {value}");
    }
}
