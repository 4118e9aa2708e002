//! What resonance makes of agents that disagree, beside the plain mean and PCGrad; and how often it takes a batch for universal
//! or for a conflict.

#![forbid(unsafe_code)]

use std::time::Instant;

use clap::Parser;
use dynlora_core::{AgentId, Level, Resonance, Signal};
use dynlora_resonance::{HorizontalConfig, HorizontalResonance, ResonanceConfig, ResonanceEngine, VerticalConfig};
use krystal_benches::{Options, Report, Table, median};
use krystal_math::permutation;
use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::Rng;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

const SEED: u64 = 20;

/// Numbers in a gradient.
const LENGTH: usize = 10_000;

/// Numbers in a sketch.
const K: usize = 1024;

/// Ticks of a trial; cosines are those of the second half.
const TICKS: usize = 20;

/// Standard deviation of the logarithm of gradients' norms.
const NORM_SPREAD: f64 = 0.5;

/// A swarm of agents of which some want the opposite.
struct Case {
    key: &'static str,
    agents: usize,
    opposing: usize,
    rho: f64,
}

const CASES: [Case; 6] = [
    Case { key: "cos_8_0", agents: 8, opposing: 0, rho: 0.2 },
    Case { key: "cos_8_2", agents: 8, opposing: 2, rho: 0.2 },
    Case { key: "cos_8_3", agents: 8, opposing: 3, rho: 0.2 },
    Case { key: "cos_8_2_rho5", agents: 8, opposing: 2, rho: 0.5 },
    Case { key: "cos_32_8", agents: 32, opposing: 8, rho: 0.1 },
    Case { key: "cos_32_12", agents: 32, opposing: 12, rho: 0.2 },
];

const METHODS: [&str; 6] = ["mean", "seed", "cosine", "first_tick", "resonance", "pcgrad"];

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let mut report = Report::default();
    horizontal(&options, &mut report)?;
    vertical(&options, &mut report)?;
    cost(&options, &mut report)?;
    report.close(&options);
    Ok(())
}

fn horizontal(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let trials = if options.quick { 2 } else { 32 };
    let mut table = Table::new([
        "agents, opposing, rho",
        "plain mean",
        "seed",
        "cosine",
        "resonance, first tick",
        "resonance",
        "PCGrad",
    ]);
    for (index, case) in CASES.iter().enumerate() {
        let mut sums = [0.0; METHODS.len()];
        for trial in 0..trials {
            for (sum, cosine) in sums.iter_mut().zip(case.trial((index * 1000 + trial) as u64)?) {
                *sum += cosine / trials as f64;
            }
        }
        for (method, cosine) in METHODS.iter().zip(sums) {
            report.keep(&format!("{}.{method}", case.key), cosine)?;
        }
        let name = format!("{}, {}, {}", case.agents, case.opposing, case.rho);
        table.row(&name, sums.map(|cosine| Some(format!("{cosine:.3}"))));
    }
    println!("Cosine of what the agents' gradients are combined to with the direction that they are to find.\n");
    table.print(options);
    Ok(())
}

impl Case {
    /// Mean cosines of one trial, in the order of [`METHODS`].
    fn trial(&self, stream: u64) -> anyhow::Result<[f64; METHODS.len()]> {
        let mut rng = stream_rng(SEED, Purpose::Task, stream, 0);
        let signal = unit(noise(LENGTH, &mut rng));
        let mut with_memory = HorizontalResonance::new(HorizontalConfig::default())?;
        let mut seed = HorizontalResonance::new(HorizontalConfig::seed())?;
        let mut cosine = HorizontalResonance::new(HorizontalConfig::cosine())?;
        let mut out = vec![0.0; LENGTH];
        let mut means = [0.0; METHODS.len()];
        for tick in 0..TICKS {
            let gradients: Vec<Vec<f32>> = (0..self.agents)
                .map(|agent| {
                    let rho = if agent < self.opposing { -self.rho } else { self.rho };
                    let size = (NORM_SPREAD * normal(&mut rng)).exp();
                    at_angle(&signal, rho, &mut rng).iter().map(|value| (f64::from(*value) * size) as f32).collect()
                })
                .collect();
            let voices: Vec<(AgentId, &[f32])> =
                gradients.iter().enumerate().map(|(agent, g)| (AgentId(agent as u64), g.as_slice())).collect();
            let late = tick >= TICKS / 2;
            let share = 1.0 / (TICKS - TICKS / 2) as f64;
            with_memory.aggregate(&voices, &mut out);
            if tick == 0 {
                means[3] = angle(&out, &signal);
            }
            if late {
                means[4] += share * angle(&out, &signal);
                means[0] += share * angle(&mean(&gradients), &signal);
                cosine.aggregate(&voices, &mut out);
                means[2] += share * angle(&out, &signal);
                let order = stream * TICKS as u64 + tick as u64;
                means[5] += share * angle(&pcgrad(&gradients, order), &signal);
            }
            // The seed's direction is that of the first batch it sees.
            seed.aggregate(&voices, &mut out);
            if late {
                means[1] += share * angle(&out, &signal);
            }
            with_memory.end_tick();
        }
        Ok(means)
    }
}

/// What the next batch has in common with the history.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scene {
    /// Everyone's batches point the same way.
    Universal,
    /// This agent's batches point one way, the others' another.
    AgentOnly,
    /// This batch points a way that nobody's did.
    Transient,
    /// This batch points against everyone's.
    Conflict,
}

fn vertical(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let trials = if options.quick { 20 } else { 1000 };
    let scenes = [
        ("universal", Scene::Universal),
        ("agent_only", Scene::AgentOnly),
        ("transient", Scene::Transient),
        ("conflict", Scene::Conflict),
    ];
    let mut table = Table::new(["rho, comparison", "universal", "agent only", "transient", "context opposes"]);
    let modes =
        [("vertical", "resonance", VerticalConfig::default()), ("vertical_seed", "seed", VerticalConfig::seed())];
    for (rho_key, rho) in [("rho1", 0.1), ("rho2", 0.2), ("rho4", 0.4)] {
        for (prefix, mode, config) in &modes {
            let config = ResonanceConfig::new(HorizontalConfig::default(), config.clone());
            let mut rates = [0.0; 4];
            for (rate, (name, scene)) in rates.iter_mut().zip(scenes) {
                let expected = if scene == Scene::Conflict { Signal::Conflict } else { Signal::FastTrack };
                let mut count = 0;
                for trial in 0..trials {
                    let stream = 100_000 * (1 + scene as u64) + trial;
                    let signal = last_signal(scene, rho, stream, ResonanceEngine::new(config.clone())?);
                    count += u32::from(signal == expected);
                }
                *rate = f64::from(count) / trials as f64;
                report.keep(&format!("{prefix}.{rho_key}.{name}"), *rate)?;
            }
            table.row(&format!("{rho}, {mode}"), rates.map(|rate| Some(format!("{rate:.3}"))));
        }
    }
    println!("Share of batches that are fast-tracked, in the last column taken for a conflict.\n");
    table.print(options);
    Ok(())
}

/// Fills the windows of agent and swarm with 16 ticks of two agents, then judges one batch of the first.
fn last_signal(scene: Scene, rho: f64, stream: u64, mut engine: ResonanceEngine) -> Signal {
    let mut rng = stream_rng(SEED, Purpose::Task, stream, 1);
    let [common, other, third] = [(); 3].map(|()| unit(noise(K, &mut rng)));
    let others = if matches!(scene, Scene::Universal | Scene::Conflict) { &common } else { &other };
    for _ in 0..Level::Swarm.period() {
        engine.vertical(AgentId(0), &batch(&common, rho, &mut rng));
        engine.vertical(AgentId(1), &batch(others, rho, &mut rng));
        engine.end_tick();
    }
    let (own, rho) = match scene {
        Scene::Transient => (&third, rho),
        Scene::Conflict => (&common, -rho),
        Scene::Universal | Scene::AgentOnly => (&common, rho),
    };
    engine.vertical(AgentId(0), &batch(own, rho, &mut rng)).signal
}

fn cost(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let length = if options.quick { 1 << 14 } else { 1 << 20 };
    let mut table = Table::new(["agents", "resonance, ns", "plain mean, ns", "ratio"]);
    for agents in [8, 32] {
        let mut rng = stream_rng(SEED, Purpose::Task, 1 << 40, agents as u64);
        let gradients: Vec<Vec<f32>> = (0..agents).map(|_| noise(length, &mut rng)).collect();
        let voices: Vec<(AgentId, &[f32])> =
            gradients.iter().enumerate().map(|(agent, g)| (AgentId(agent as u64), g.as_slice())).collect();
        let mut resonance = HorizontalResonance::new(HorizontalConfig::default())?;
        let mut out = vec![0.0; length];
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let start = Instant::now();
            resonance.aggregate(&voices, &mut out);
            resonance.end_tick();
            ours.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            std::hint::black_box(mean(&gradients));
            plain.push(start.elapsed().as_secs_f64());
        }
        let ns = 1e9 / (agents * length) as f64;
        let (ours, plain) = (median(ours) * ns, median(plain) * ns);
        report.keep(&format!("ns_per_parameter.agents_{agents}.resonance"), ours)?;
        report.keep(&format!("ns_per_parameter.agents_{agents}.mean"), plain)?;
        let cells = [format!("{ours:.2}"), format!("{plain:.2}"), format!("{:.1}", ours / plain)];
        table.row(&agents.to_string(), cells.map(Some));
    }
    println!("Time for each number of each agent's gradient, one thread.\n");
    table.print(options);
    Ok(())
}

fn mean(gradients: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = vec![0.0; gradients[0].len()];
    let share = 1.0 / gradients.len() as f32;
    for gradient in gradients {
        for (mean, value) in mean.iter_mut().zip(gradient) {
            *mean += share * value;
        }
    }
    mean
}

/// PCGrad (Yu et al., arXiv 2001.06782): every gradient, projected onto the normal plane of each other one that it opposes, these
/// in random order; the mean of the results.
///
/// The projected gradients stay combinations of the given ones, so all products come from one Gram matrix.
fn pcgrad(gradients: &[Vec<f32>], stream: u64) -> Vec<f32> {
    let n = gradients.len();
    let mut gram = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            gram[i][j] = dot(&gradients[i], &gradients[j]);
            gram[j][i] = gram[i][j];
        }
    }
    let mut weights = vec![0.0; n];
    for i in 0..n {
        let mut own = vec![0.0; n];
        own[i] = 1.0;
        for j in permutation(n, SEED, Purpose::Task, stream * n as u64 + i as u64) {
            let product: f64 = own.iter().zip(&gram[j]).map(|(weight, product)| weight * product).sum();
            if j != i && product < 0.0 {
                own[j] -= product / gram[j][j];
            }
        }
        for (weight, own) in weights.iter_mut().zip(own) {
            *weight += own / n as f64;
        }
    }
    let mut out = vec![0.0_f32; gradients[0].len()];
    for (gradient, weight) in gradients.iter().zip(weights) {
        for (out, value) in out.iter_mut().zip(gradient) {
            *out += weight as f32 * value;
        }
    }
    out
}

/// A unit vector with exactly this cosine to the unit vector `signal`, otherwise random.
fn at_angle(signal: &[f32], rho: f64, rng: &mut StreamRng) -> Vec<f32> {
    let mut vector = noise(signal.len(), rng);
    let along = dot(&vector, signal);
    for (value, signal) in vector.iter_mut().zip(signal) {
        *value -= (along * f64::from(*signal)) as f32;
    }
    let across = (1.0 - rho * rho).sqrt() / dot(&vector, &vector).sqrt();
    for (value, signal) in vector.iter_mut().zip(signal) {
        *value = (rho * f64::from(*signal) + across * f64::from(*value)) as f32;
    }
    vector
}

/// The sketch of a batch whose gradient has this cosine to the signal: exact in the gradient's many dimensions, it has the
/// sketch's error in these few.
fn batch(signal: &[f32], rho: f64, rng: &mut StreamRng) -> Vec<f32> {
    let mut vector = unit(noise(signal.len(), rng));
    let across = (1.0 - rho * rho).sqrt();
    for (value, signal) in vector.iter_mut().zip(signal) {
        *value = (rho * f64::from(*signal) + across * f64::from(*value)) as f32;
    }
    vector
}

/// Sums of four uniform numbers, centred: close to normal, and fast.
fn noise(length: usize, rng: &mut StreamRng) -> Vec<f32> {
    (0..length)
        .map(|_| {
            let word = rng.next_u64();
            (0..4).map(|i| (word >> (16 * i)) & 0xffff).sum::<u64>() as f32 / 65_536.0 - 2.0
        })
        .collect()
}

/// Standard normal: twelve uniform numbers, centred.
fn normal(rng: &mut StreamRng) -> f64 {
    (0..12).map(|_| f64::from(rng.next_u32()) / 2.0_f64.powi(32)).sum::<f64>() - 6.0
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let inverse = 1.0 / dot(&vector, &vector).sqrt();
    for value in &mut vector {
        *value = (f64::from(*value) * inverse) as f32;
    }
    vector
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    for (left, right) in left.chunks(8).zip(right.chunks(8)) {
        for (sum, (left, right)) in lanes.iter_mut().zip(left.iter().zip(right)) {
            *sum += f64::from(*left) * f64::from(*right);
        }
    }
    lanes.iter().sum()
}

fn angle(left: &[f32], right: &[f32]) -> f64 {
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}
