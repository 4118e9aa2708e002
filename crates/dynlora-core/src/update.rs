//! One step of a layer along a gradient.

use std::sync::Arc;

use crate::decay::{Keep, seed_decay_row};
use crate::dynamic_layer::{Detail, DynamicLoraLayer, ModuleDynamics, Moments, Scratch, channel_ranges};
use crate::entropy_budget::Movement;
use crate::fused_pass::{AdamRates, EachRates, EachRow, RowSums, apply_each, apply_whole, ask_adam, ask_sgd};
use crate::inertia::Use;
use crate::screening::{Flips, Thresholds};
use crate::{
    DecayMode, DensityMode, LayerConfig, LayerGradient, LayerStep, LoraLayer, ModuleFactors, OptimizerKind, StepGuide,
    UpdateReport,
};

/// A channel's `h^2` is noticeable from this share of its module's mean on.
const NOTICEABLE_USAGE: f32 = 0.01;
/// Steps beyond which the bias of Adam's moments is long gone, and a count is still exact as `f32`.
const MAX_STEPS: u32 = 1 << 24;

/// What all modules share in a step.
struct StepRates<'a> {
    step: &'a LayerStep,
    guide: &'a StepGuide<'a>,
    config: &'a LayerConfig,
    threshold: f64,
}

impl DynamicLoraLayer {
    /// The step.
    ///
    /// # Panics
    /// If the gradient has another number of values than the layer, or measured usage or guided rates another number than it
    /// has channels.
    pub(crate) fn descend(
        &mut self,
        gradient: &LayerGradient<'_>,
        step: &LayerStep,
        guide: &StepGuide<'_>,
    ) -> UpdateReport {
        let n_channels: usize = self.factors.iter().map(|factors| factors.rank).sum();
        assert_eq!(gradient.values.len(), self.num_parameters(), "values of a gradient for the parameters of a layer");
        for (what, n) in [("usage", gradient.usage.len()), ("channel rates", guide.channel_rates.len())] {
            assert!(n == 0 || n == n_channels, "{n} values of {what} for {n_channels} channels");
        }
        debug_assert!(gradient.values.iter().all(|g| g.is_finite()), "gradients are checked before they come here");

        let plasticity = 1.0 - self.effective_inertia();
        let is_clocked = self.is_clocked();
        let config = self.config.clone();
        let shared = StepRates { step, guide, config: &config, threshold: self.budget.threshold };
        let (mut first_value, mut first_channel) = (0, 0);
        let (mut path, mut change, mut change2, mut rate_sum) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..self.modules.len() {
            let module = &mut self.modules[i];
            let keep = if is_clocked { self.clock.take(&mut module.mark) } else { Keep::ALL };
            let factors = Arc::make_mut(&mut self.factors[i]);
            let n_values = factors.num_parameters();
            let scale = (config.reference_rank as f64 / factors.rank as f64).powf(config.effective_rank_exponent());
            let rate = step.learning_rate * scale * plasticity;
            rate_sum += rate * n_values as f64;
            let part = ModulePart {
                index: i,
                gradient: &gradient.values[first_value..][..n_values],
                channel_rates: guide.channel_rates.get(first_channel..).unwrap_or(&[]),
                rate,
                keep,
            };
            let done = descend_module(factors, module, &part, &shared, &mut self.scratch);
            first_value += n_values;
            first_channel += factors.rank;
            path += done.path;
            change += done.change;
            change2 += done.parameter_change;
            self.flips.add(done.flips);
        }
        if config.mechanisms.decay && config.decay == DecayMode::SeedBothFactors {
            self.decay_as_the_seed();
        }
        self.inertia.observe(
            &Use {
                shares: gradient.shares,
                frequency: self.noticeable_share(gradient.usage),
                path,
                gradient_norm: match config.density {
                    DensityMode::Seed => gradient.values.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt(),
                    DensityMode::Normalised => 0.0,
                },
                release: step.release,
            },
            &config,
        );
        self.budget.measured();
        self.last_update = self.last_update.max(step.tick);
        UpdateReport {
            change: change.sqrt(),
            parameter_change: change2.sqrt(),
            learning_rate: rate_sum / gradient.values.len().max(1) as f64,
        }
    }

    fn decay_as_the_seed(&mut self) {
        for i in 0..self.modules.len() {
            for channel in 0..self.factors[i].rank {
                let initial = self.initial_a(i, channel);
                let factors = Arc::make_mut(&mut self.factors[i]);
                let module = &self.modules[i];
                if !module.channels[channel].is_pinned {
                    seed_decay_row(factors.a_row_mut(channel), initial, module.phase(channel, false), &self.config);
                }
                let zeros = std::iter::repeat(0.0);
                seed_decay_row(factors.b_row_mut(channel), zeros, module.phase(channel, true), &self.config);
            }
        }
    }

    /// Share of channels with a noticeable `|h|`; 1 where it was not measured.
    fn noticeable_share(&self, usage: &[f32]) -> f64 {
        if usage.is_empty() {
            return 1.0;
        }
        let (mut rest, mut noticeable) = (usage, 0);
        for factors in &self.factors {
            let (module, others) = rest.split_at(factors.rank);
            rest = others;
            let mean = module.iter().sum::<f32>() / module.len().max(1) as f32;
            noticeable += module.iter().filter(|h2| **h2 > NOTICEABLE_USAGE * mean).count();
        }
        noticeable as f64 / usage.len() as f64
    }
}

/// A module's share of a step.
struct ModulePart<'a> {
    index: usize,
    gradient: &'a [f32],
    /// From its first channel on; empty for 1.
    channel_rates: &'a [f32],
    rate: f64,
    keep: Keep,
}

#[derive(Default)]
struct ModuleReport {
    path: f64,
    /// Squared.
    change: f64,
    /// Squared.
    parameter_change: f64,
    flips: Flips,
}

fn descend_module(
    factors: &mut ModuleFactors,
    module: &mut ModuleDynamics,
    part: &ModulePart<'_>,
    shared: &StepRates<'_>,
    scratch: &mut Scratch,
) -> ModuleReport {
    let (config, tick) = (shared.config, shared.step.tick);
    let n_values = factors.num_parameters();
    let per_channel = (factors.d_in + factors.d_out) as f64;
    prepare(factors, module, shared);
    module.is_dirty = true;
    module.is_live = true;
    scratch.asked.resize(factors.d_in.max(factors.d_out), 0.0);
    scratch.wanted.resize(scratch.asked.len().div_ceil(8), 0);

    let thresholds = Thresholds::new(shared.threshold, config.hysteresis, module.mean_activity);
    let mut report = ModuleReport::default();
    let mut activity = 0.0;
    module.movement = Movement::default();
    // Almost always all channels have seen as many steps.
    let mut biases = (0, [1.0; 2]);
    if let Some(mix) = shared.guide.mix_b {
        scratch.mixed.resize(factors.b.len(), 0.0);
        for channel in 0..factors.rank {
            let [_, range] = channel_ranges(factors, channel);
            let asked = &mut scratch.mixed[channel * factors.d_out..][..factors.d_out];
            ask_row(module, part, shared, channel, true, range, &mut biases, asked);
        }
        mix(part.index, &mut scratch.mixed);
    }
    for channel in 0..factors.rank {
        let record = module.channels[channel];
        let has_credit = record.credit_until > tick;
        let ranges = channel_ranges(factors, channel);
        let mut sums = [RowSums::default(); 2];
        for (is_b, range) in [false, true].into_iter().zip(ranges) {
            let gradient = &part.gradient[range.clone()];
            let is_mixed = is_b && shared.guide.mix_b.is_some();
            let asked: &[f32] = if is_mixed {
                &scratch.mixed[channel * factors.d_out..][..factors.d_out]
            } else {
                let asked = &mut scratch.asked[..gradient.len()];
                ask_row(module, part, shared, channel, is_b, range.clone(), &mut biases, asked);
                if let (false, false, Some(project)) = (is_b, record.is_pinned, shared.guide.project_a) {
                    project(part.index, channel, asked);
                }
                asked
            };
            let theta = if is_b { factors.b_row_mut(channel) } else { factors.a_row_mut(channel) };
            let keep = if is_b { part.keep } else { Keep::ALL };
            sums[usize::from(is_b)] = match (&mut module.detail, &mut module.phases) {
                (Some(detail), Some(phases)) => {
                    let row = phases.row(channel, is_b);
                    let wanted = &mut scratch.wanted[..row.len()];
                    let rates = EachRates {
                        keep_free: keep.free,
                        keep_screened: keep.screened,
                        screened_rate: config.screened_rate as f32,
                        activity_gain: (1.0 - config.activity_beta) as f32,
                        movement_gain: (1.0 - config.movement_beta) as f32,
                        enter: thresholds.enter,
                        leave: thresholds.leave,
                    };
                    let each = EachRow {
                        theta,
                        activity: &mut detail.activity[range.clone()],
                        movement: &mut detail.movement[range.clone()],
                        phases: &phases.bits[row.clone()],
                        wanted,
                    };
                    let sums = apply_each(each, gradient, asked, &rates);
                    if !config.mechanisms.screening {
                        wanted.fill(0);
                    }
                    if !has_credit {
                        report.flips.add(phases.flip(row, wanted, tick));
                    }
                    sums
                }
                _ => {
                    let (keep, rate) = match record.is_screened {
                        true => (keep.screened, config.screened_rate as f32),
                        false => (keep.free, 1.0),
                    };
                    apply_whole(theta, gradient, asked, keep, rate)
                }
            };
        }
        let [a, b] = &sums;
        report.path += a.path + b.path;
        report.parameter_change += a.delta2 + b.delta2;
        // |db a^T + b da^T|^2; channels count as orthogonal to each other.
        report.change += (b.delta2 * a.value2 + b.value2 * a.delta2 + 2.0 * a.value_delta * b.value_delta).max(0.0);
        let record = &mut module.channels[channel];
        record.n_steps = if module.moments.is_some() { (record.n_steps + 1).min(MAX_STEPS) } else { 0 };
        if module.detail.is_some() {
            record.activity = ((a.activity + b.activity) / per_channel) as f32;
            module.movement.total += a.movement + b.movement;
            module.movement.screened += a.movement_screened + b.movement_screened;
        } else {
            let mix =
                |mean: f32, now: f64, beta: f64| (f64::from(mean) * beta + now / per_channel * (1.0 - beta)) as f32;
            record.activity = mix(record.activity, a.path + b.path, config.activity_beta);
            record.movement = mix(record.movement, a.movement + b.movement, config.movement_beta);
            let movement = f64::from(record.movement) * per_channel;
            module.movement.total += movement;
            module.movement.screened += if record.is_screened { movement } else { 0.0 };
        }
        activity += f64::from(record.activity) * per_channel;
    }
    module.mean_activity = activity / n_values as f64;
    if module.phases.is_none() {
        report.flips.add(flip_channels(module, shared));
    }
    debug_assert!(factors.a.iter().chain(&factors.b).all(|x| x.is_finite()), "a step left single precision");
    report
}

/// The change that the optimiser asks of a channel's row of `A` or of `B^T`. `biases` remembers the last bias corrections.
#[allow(clippy::too_many_arguments, reason = "one row of a step; a structure would be built for every row")]
fn ask_row(
    module: &mut ModuleDynamics,
    part: &ModulePart<'_>,
    shared: &StepRates<'_>,
    channel: usize,
    is_b: bool,
    range: std::ops::Range<usize>,
    biases: &mut (u32, [f64; 2]),
    asked: &mut [f32],
) {
    let config = shared.config;
    let record = module.channels[channel];
    let n_steps = (record.n_steps + 1).min(MAX_STEPS);
    if biases.0 != n_steps {
        let bias = |beta: f64| 1.0 - beta.powi(n_steps as i32);
        *biases = (n_steps, [bias(config.beta1), bias(config.beta2)]);
    }
    let guided = part.channel_rates.get(channel).copied().map_or(1.0, f64::from);
    let rate = match is_b {
        false if record.is_pinned => 0.0,
        false => part.rate * guided,
        true => part.rate * guided * config.lora_plus_ratio,
    };
    let gradient = &part.gradient[range.clone()];
    match &mut module.moments {
        Some(Moments { first, second }) => {
            let rates = AdamRates {
                strength: shared.step.strength as f32,
                one_minus_beta1: (1.0 - config.beta1) as f32,
                beta2: config.beta2 as f32,
                one_minus_beta2: (1.0 - config.beta2) as f32,
                step: (rate / biases.1[0]) as f32,
                root: (1.0 / biases.1[1].sqrt()) as f32,
                eps: config.adam_eps as f32,
            };
            ask_adam(gradient, &mut first[range.clone()], &mut second[range], &rates, asked);
        }
        None => ask_sgd(gradient, (rate * shared.step.strength) as f32, asked),
    }
}

/// Gives a module what it needs to learn: moments, and single parameters' activity.
fn prepare(factors: &ModuleFactors, module: &mut ModuleDynamics, shared: &StepRates<'_>) {
    let n_values = factors.num_parameters();
    if module.moments.is_none() && shared.config.optimizer == OptimizerKind::AdamW {
        module.moments = Some(Moments { first: vec![0.0; n_values], second: vec![0.0; n_values] });
    }
    let Some(phases) = &mut module.phases else { return };
    phases.begin(shared.step.tick, shared.config.dwell_ticks);
    if module.detail.is_some() {
        return;
    }
    let thresholds = Thresholds::new(shared.threshold, shared.config.hysteresis, module.mean_activity);
    let mut detail = Detail { activity: vec![0.0; n_values], movement: vec![0.0; n_values] };
    for (channel, record) in module.channels.iter().enumerate() {
        for (is_b, range) in [false, true].into_iter().zip(channel_ranges(factors, channel)) {
            detail.movement[range.clone()].fill(record.movement);
            let bits = &phases.bits[phases.row(channel, is_b)];
            for (k, activity) in detail.activity[range].iter_mut().enumerate() {
                // On the side of the threshold where its phase is; without any activity yet there is no threshold.
                *activity = match bits[k / 8] >> (k % 8) & 1 != 0 {
                    _ if module.mean_activity <= 0.0 => record.activity,
                    true => record.activity.max(thresholds.enter),
                    false => record.activity.min(thresholds.leave),
                };
            }
        }
    }
    module.detail = Some(detail);
}

/// Phases of whole channels after a step.
fn flip_channels(module: &mut ModuleDynamics, shared: &StepRates<'_>) -> Flips {
    let (config, tick) = (shared.config, shared.step.tick);
    let thresholds = Thresholds::new(shared.threshold, config.hysteresis, module.mean_activity);
    let mut flips = Flips::default();
    for record in &mut module.channels {
        let wanted = config.mechanisms.screening && thresholds.wants(record.is_screened, record.activity);
        if wanted != record.is_screened && tick >= record.dwell_until && tick >= record.credit_until {
            record.is_screened = wanted;
            record.dwell_until = tick.saturating_add(u64::from(config.dwell_ticks));
            match wanted {
                true => flips.screened += 1,
                false => flips.freed += 1,
            }
        }
    }
    flips
}
