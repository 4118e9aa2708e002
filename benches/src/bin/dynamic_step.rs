//! What the step of a dynamic layer costs beside a plain AdamW step over as many parameters.

#![forbid(unsafe_code)]

use clap::Parser;
use dynlora_core::{
    AgentId, DynamicLoraLayer, Granularity, LayerConfig, LayerGradient, LayerStep, Level, LoraLayer, ModuleShape,
};
use grpo_trainer::optimizer::{AdamW, AdamWSettings};
use krystal_benches::{Options, Report, Table, cpu_seconds, median};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// A model of width `d` with `n` blocks of seven adapted matrices.
struct Size {
    name: &'static str,
    width: usize,
    n_blocks: usize,
}

const SIZES: [Size; 2] =
    [Size { name: "small", width: 128, n_blocks: 2 }, Size { name: "medium", width: 512, n_blocks: 4 }];

fn shapes(size: &Size) -> Vec<ModuleShape> {
    let (d, ffn) = (size.width, 3 * size.width);
    let sides = [(d, d), (d, d / 2), (d, d / 2), (d, d), (d, ffn), (d, ffn), (ffn, d)];
    let blocks = (0..size.n_blocks).flat_map(|block| sides.into_iter().enumerate().map(move |at| (block, at)));
    blocks.map(|(block, (i, (d_in, d_out)))| ModuleShape { name: format!("{block}.{i}"), d_in, d_out }).collect()
}

/// Nanoseconds a parameter, of processor time, for `n_steps` steps.
fn time(n_steps: u64, n_parameters: usize, mut step: impl FnMut()) -> f64 {
    let start = cpu_seconds();
    (0..n_steps).for_each(|_| step());
    (cpu_seconds() - start) * 1e9 / (n_steps as f64 * n_parameters as f64)
}

fn main() -> anyhow::Result<()> {
    let Arguments { options } = Arguments::parse();
    let (n_rounds, n_values) = if options.quick { (3, 2_000_000) } else { (25, 20_000_000) };
    let mut report = Report::default();
    let mut table =
        Table::new(["layer", "parameters", "AdamW, ns", "by parameter, ns", "ratio", "by channel, ns", "ratio"]);
    for size in &SIZES {
        let shapes = shapes(size);
        let layer = |granularity| {
            let mut config = LayerConfig::default();
            config.granularity = granularity;
            DynamicLoraLayer::new(Level::Swarm, AgentId(0), &shapes, &vec![16; shapes.len()], 1, config)
        };
        let mut layers = [layer(Granularity::Param)?, layer(Granularity::Channel)?];
        let n_parameters = layers[0].num_parameters();
        let mut rng = stream_rng(1, Purpose::Task, 0, 0);
        let gradient: Vec<f32> = (0..n_parameters).map(|_| 1e-3 * (rng.random::<f32>() - 0.5)).collect();
        let mut tensors: Vec<Vec<f32>> =
            layers[0].factors().iter().flat_map(|factors| [factors.a.clone(), factors.b.clone()]).collect();
        let mut adamw = AdamW::<f32>::new(AdamWSettings::default(), tensors.iter().map(Vec::len));

        let n_steps = (n_values / n_parameters).max(1) as u64;
        let mut tick = 0;
        let mut times: [Vec<f64>; 3] = Default::default();
        // Interleaved, so that all three see the same load; the first round warms up.
        for round in 0..=n_rounds {
            let plain = time(n_steps, n_parameters, || {
                let mut rest = &gradient[..];
                adamw.step(
                    1e-4,
                    tensors.iter_mut().map(|values| {
                        let (part, others) = rest.split_at(values.len());
                        rest = others;
                        (&mut values[..], part)
                    }),
                );
            });
            let fused = layers.each_mut().map(|layer| {
                let mut tick = tick;
                time(n_steps, n_parameters, || {
                    tick += 1;
                    let step = LayerStep { tick, learning_rate: 1e-4, strength: 1.0, release: false };
                    layer.update(&LayerGradient { values: &gradient, usage: &[], shares: &[1.0] }, &step);
                    layer.advance(tick);
                })
            });
            tick += n_steps;
            if round > 0 {
                times.iter_mut().zip([plain, fused[0], fused[1]]).for_each(|(times, time)| times.push(time));
            }
        }
        let [plain, by_param, by_channel] = times.map(median);
        let cells =
            [plain, by_param, by_param / plain, by_channel, by_channel / plain].map(|x| Some(format!("{x:.2}")));
        table.row(size.name, [Some(n_parameters.to_string())].into_iter().chain(cells));
        // The keys without a prefix are those of the last, largest size at the granularity that a layer of it has by default.
        for prefix in [format!("{}.", size.name), String::new()] {
            report.keep(&format!("{prefix}adamw_ns_per_param"), plain)?;
            report.keep(&format!("{prefix}fused_ns_per_param"), by_param)?;
            report.keep(&format!("{prefix}ratio"), by_param / plain)?;
            report.keep(&format!("{prefix}channel_ns_per_param"), by_channel)?;
            report.keep(&format!("{prefix}channel_ratio"), by_channel / plain)?;
        }
    }
    table.print(&options);
    report.close(&options);
    Ok(())
}
