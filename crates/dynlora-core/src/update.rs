//! One step of a layer along a gradient.

use std::sync::Arc;

use crate::decay::{Keep, seed_decay_row};
use crate::dynamic_layer::{DynamicLoraLayer, ModuleDynamics, Moments, Scratch, channel_ranges};
use crate::entropy_budget::Movement;
use crate::fused_pass::{
    AdamRates, MomentRow, StepRates, adam_each, adam_whole, apply_each, apply_whole, ask_adam, ask_sgd, note_activity,
    pack, path, schmitt, squares, squares_where, total, unpack,
};
use crate::inertia::Use;
use crate::screening::{Flips, Thresholds};
use crate::{
    DecayMode, DensityMode, LayerConfig, LayerGradient, LayerStep, LoraLayer, MixRows, ModuleFactors, OptimizerKind,
    StepGuide, UpdateReport,
};

/// A channel's `h^2` is noticeable from this share of its module's mean on.
const NOTICEABLE_USAGE: f32 = 0.01;
/// Steps beyond which the bias of Adam's moments is long gone, and a count is still exact as `f32`.
const MAX_STEPS: u32 = 1 << 24;

/// What all modules share in a step.
struct Shared<'a> {
    step: &'a LayerStep,
    guide: &'a StepGuide<'a>,
    config: &'a LayerConfig,
    threshold: f64,
    /// Whether phases may change.
    may_flip: bool,
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

        let plasticity = 1.0 - self.effective_inertia();
        let is_clocked = self.is_clocked();
        let config = self.config.clone();
        let may_flip = step.tick >= self.next_flip;
        if may_flip {
            self.next_flip = step.tick.saturating_add(u64::from(config.dwell_ticks));
        }
        let shared = Shared { step, guide, config: &config, threshold: self.budget.threshold, may_flip };
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
    shared: &Shared<'_>,
    scratch: &mut Scratch,
) -> ModuleReport {
    let config = shared.config;
    let n_values = factors.num_parameters();
    let per_channel = (factors.d_in + factors.d_out) as f64;
    let thresholds = Thresholds::new(shared.threshold, config.hysteresis, module.mean_activity);
    prepare(factors, module, shared, &thresholds);
    module.is_dirty = true;
    module.is_live = true;
    let width = factors.d_in.max(factors.d_out);
    scratch.asked.resize(width, 0.0);
    scratch.screened.resize(width, 0.0);
    scratch.wanted.resize(width.div_ceil(8), 0);

    if let Some(mix) = shared.guide.mix_b {
        mix_rows(factors, module, part, shared, scratch, mix);
    }
    let mut report = ModuleReport::default();
    let (mut activity, mut movement) = (0.0, Movement::default());
    // Almost always all channels have seen as many steps.
    let mut biases = (0, [1.0; 2]);
    for channel in 0..factors.rank {
        let record = module.channels[channel];
        let n_steps = (record.n_steps + 1).min(MAX_STEPS);
        if biases.0 != n_steps {
            biases = (n_steps, bias_corrections(config, n_steps));
        }
        let guided = part.channel_rates.get(channel).copied().map_or(1.0, f64::from);
        let mut sums = [RowSums::default(); 2];
        for (is_b, range) in [false, true].into_iter().zip(channel_ranges(factors, channel)) {
            let rate = match is_b {
                false if record.is_pinned => 0.0,
                false => part.rate * guided,
                true => part.rate * guided * config.lora_plus_ratio,
            };
            let row = Row {
                is_b,
                channel,
                gradient: &part.gradient[range.clone()],
                range,
                rate,
                biases: biases.1,
                keep: if is_b { part.keep } else { Keep::ALL },
            };
            let theta = if is_b { factors.b_row_mut(channel) } else { factors.a_row_mut(channel) };
            sums[usize::from(is_b)] = descend_row(theta, module, &row, part.index, &thresholds, shared, scratch);
        }
        let [a, b] = &sums;
        report.path += a.path + b.path;
        report.parameter_change += a.delta2 + b.delta2;
        // |db a^T + b da^T|^2, as if the two terms and all channels were orthogonal.
        report.change += b.delta2 * a.value2 + b.value2 * a.delta2;
        report.flips.add(a.flips);
        report.flips.add(b.flips);
        movement.total += a.asked2 + b.asked2;
        movement.screened += a.asked2_screened + b.asked2_screened;
        let record = &mut module.channels[channel];
        record.n_steps = if module.moments.is_some() { n_steps } else { 0 };
        let path = (a.path + b.path) / per_channel;
        record.activity = match module.detail.is_some() {
            true => path as f32,
            false => (f64::from(record.activity) * config.activity_beta + path * (1.0 - config.activity_beta)) as f32,
        };
        activity += f64::from(record.activity) * per_channel;
    }
    module.mean_activity = activity / n_values as f64;
    let mix = |mean: f64, now: f64| mean * config.movement_beta + now * (1.0 - config.movement_beta);
    module.movement.total = mix(module.movement.total, movement.total);
    module.movement.screened = mix(module.movement.screened, movement.screened);
    if module.phases.is_none() {
        report.flips.add(flip_channels(module, shared));
    }
    report
}

/// One row of a factor in a step.
struct Row<'a> {
    is_b: bool,
    channel: usize,
    gradient: &'a [f32],
    /// Place in the gradient's layout.
    range: std::ops::Range<usize>,
    rate: f64,
    /// `1 - beta^t` of both moments.
    biases: [f64; 2],
    keep: Keep,
}

/// Sums over a row.
#[derive(Clone, Copy, Default)]
struct RowSums {
    /// `|theta g|`; the mean over recent updates where single parameters keep it.
    path: f64,
    /// `theta^2` before the step.
    value2: f64,
    /// `delta^2` of the step applied.
    delta2: f64,
    /// Squares of the step asked for, before SCREENED slows it.
    asked2: f64,
    asked2_screened: f64,
    flips: Flips,
}

fn descend_row(
    theta: &mut [f32],
    module: &mut ModuleDynamics,
    row: &Row<'_>,
    module_idx: usize,
    thresholds: &Thresholds,
    shared: &Shared<'_>,
    scratch: &mut Scratch,
) -> RowSums {
    let config = shared.config;
    let (gradient, n) = (row.gradient, row.gradient.len());
    let asked = &mut scratch.asked[..n];
    let screened = &mut scratch.screened[..n];
    let record = module.channels[row.channel];
    let slowed = config.screened_rate as f32;
    let mut rates = StepRates {
        keep: row.keep.free,
        rate: 1.0,
        screened_keep: row.keep.screened - row.keep.free,
        screened_rate: slowed - 1.0,
    };
    let mut sums = RowSums { value2: squares(theta), ..RowSums::default() };
    if let (Some(activity), Some(phases)) = (&mut module.detail, &module.phases) {
        let activity = &mut activity[row.range.clone()];
        note_activity(activity, theta, gradient, (1.0 - config.activity_beta) as f32);
        sums.path = total(activity);
        unpack(&phases.bits[phases.row(row.channel, row.is_b)], screened);
    } else {
        sums.path = path(theta, gradient);
        if record.is_screened {
            rates = StepRates { keep: row.keep.screened, rate: slowed, ..rates };
        }
    }

    let has_phases = module.phases.is_some();
    let project = shared.guide.project_a.filter(|_| !row.is_b && !record.is_pinned);
    let adam = adam_rates(shared, row.rate, row.biases);
    let moments = module.moments.as_mut().map(|Moments { first, second }| MomentRow {
        first: &mut first[row.range.clone()],
        second: &mut second[row.range.clone()],
    });
    let is_mixed = row.is_b && shared.guide.mix_b.is_some();
    match (moments, project) {
        _ if is_mixed => {
            // Asked for with all rows of the module, and mixed.
            asked.copy_from_slice(&scratch.mixed[row.channel * n..][..n]);
            match has_phases {
                true => apply_each(theta, asked, screened, &rates),
                false => apply_whole(theta, asked, &rates),
            }
        }
        (Some(moments), None) if has_phases => {
            adam_each(theta, gradient, moments, (asked, screened), &adam, &rates);
        }
        (Some(moments), None) => adam_whole(theta, gradient, moments, asked, &adam, &rates),
        (moments, project) => {
            match moments {
                Some(MomentRow { first, second }) => ask_adam(gradient, first, second, &adam, asked),
                None => ask_sgd(gradient, (row.rate * shared.step.strength) as f32, asked),
            }
            if let Some(project) = project {
                project(module_idx, row.channel, asked);
            }
            match has_phases {
                true => apply_each(theta, asked, screened, &rates),
                false => apply_whole(theta, asked, &rates),
            }
        }
    }

    sums.asked2 = squares(asked);
    sums.asked2_screened = match has_phases {
        true => squares_where(asked, screened),
        false if record.is_screened => sums.asked2,
        false => 0.0,
    };
    let slowed2 = config.screened_rate * config.screened_rate;
    sums.delta2 = (sums.asked2 - sums.asked2_screened).max(0.0) + sums.asked2_screened * slowed2;
    let has_credit = record.credit_until > shared.step.tick;
    if let (Some(activity), Some(phases), true, false) =
        (&module.detail, &mut module.phases, shared.may_flip, has_credit)
    {
        let wanted = &mut scratch.wanted[..n.div_ceil(8)];
        match config.mechanisms.screening {
            true => schmitt(&activity[row.range.clone()], screened, thresholds.enter, thresholds.leave),
            false => screened.fill(0.0),
        }
        pack(screened, wanted);
        sums.flips = phases.flip(phases.row(row.channel, row.is_b), wanted);
    }
    sums
}

/// Asks the optimiser for the changes of all rows of a module's `B^T`, and has them mixed.
fn mix_rows(
    factors: &ModuleFactors,
    module: &mut ModuleDynamics,
    part: &ModulePart<'_>,
    shared: &Shared<'_>,
    scratch: &mut Scratch,
    mix: &MixRows<'_>,
) {
    scratch.mixed.resize(factors.b.len(), 0.0);
    for channel in 0..factors.rank {
        let [_, range] = channel_ranges(factors, channel);
        let guided = part.channel_rates.get(channel).copied().map_or(1.0, f64::from);
        let rate = part.rate * guided * shared.config.lora_plus_ratio;
        let gradient = &part.gradient[range.clone()];
        let asked = &mut scratch.mixed[channel * factors.d_out..][..factors.d_out];
        let n_steps = (module.channels[channel].n_steps + 1).min(MAX_STEPS);
        match &mut module.moments {
            Some(Moments { first, second }) => {
                let adam = adam_rates(shared, rate, bias_corrections(shared.config, n_steps));
                ask_adam(gradient, &mut first[range.clone()], &mut second[range], &adam, asked);
            }
            None => ask_sgd(gradient, (rate * shared.step.strength) as f32, asked),
        }
    }
    mix(part.index, &mut scratch.mixed);
}

/// `1 - beta^t` of both moments.
fn bias_corrections(config: &LayerConfig, n_steps: u32) -> [f64; 2] {
    [config.beta1, config.beta2].map(|beta| 1.0 - beta.powi(n_steps as i32))
}

/// Adam's constants for a row with this learning rate and these bias corrections.
fn adam_rates(shared: &Shared<'_>, rate: f64, biases: [f64; 2]) -> AdamRates {
    let config = shared.config;
    AdamRates {
        strength: shared.step.strength as f32,
        one_minus_beta1: (1.0 - config.beta1) as f32,
        beta2: config.beta2 as f32,
        one_minus_beta2: (1.0 - config.beta2) as f32,
        step: (rate / biases[0]) as f32,
        root: (1.0 / biases[1].sqrt()) as f32,
        eps: config.adam_eps as f32,
    }
}

/// Gives a module what it needs to learn: moments, and single parameters' activity.
fn prepare(factors: &ModuleFactors, module: &mut ModuleDynamics, shared: &Shared<'_>, thresholds: &Thresholds) {
    let n_values = factors.num_parameters();
    if module.moments.is_none() && shared.config.optimizer == OptimizerKind::AdamW {
        module.moments = Some(Moments { first: vec![0.0; n_values], second: vec![0.0; n_values] });
    }
    let (Some(phases), None) = (&module.phases, &module.detail) else { return };
    let mut activities = vec![0.0; n_values];
    for (channel, record) in module.channels.iter().enumerate() {
        for (is_b, range) in [false, true].into_iter().zip(channel_ranges(factors, channel)) {
            let bits = &phases.bits[phases.row(channel, is_b)];
            for (k, activity) in activities[range].iter_mut().enumerate() {
                // On the side of the threshold where its phase is; without any activity yet there is no threshold.
                *activity = match bits[k / 8] >> (k % 8) & 1 != 0 {
                    _ if module.mean_activity <= 0.0 => record.activity,
                    true => record.activity.max(thresholds.enter),
                    false => record.activity.min(thresholds.leave),
                };
            }
        }
    }
    module.detail = Some(activities);
}

/// Phases of whole channels after a step.
fn flip_channels(module: &mut ModuleDynamics, shared: &Shared<'_>) -> Flips {
    let (config, tick) = (shared.config, shared.step.tick);
    let thresholds = Thresholds::new(shared.threshold, config.hysteresis, module.mean_activity);
    let mut flips = Flips::default();
    for record in &mut module.channels {
        let wanted = config.mechanisms.screening && thresholds.wants(record.is_screened, record.activity);
        if wanted != record.is_screened && shared.may_flip && tick >= record.credit_until {
            record.is_screened = wanted;
            match wanted {
                true => flips.screened += 1,
                false => flips.freed += 1,
            }
        }
    }
    flips
}
