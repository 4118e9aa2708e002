//! A layer that learns at its own pace, remembers what is used and forgets the rest.

use std::sync::Arc;

use crate::decay::{DecayClock, Keep, decay_row, layer_rate};
use crate::entropy_budget::{EntropyBudget, Movement, movement_entropy, optimal_entropy};
use crate::inertia::Inertia;
use crate::screening::{ChannelRecord, Flips, ParamPhases, RowPhase};
use crate::{
    AdvanceReport, AgentId, Channel, ChannelState, DecayMode, EntropyMode, Error, FactorAddress, Granularity,
    LayerConfig, LayerFactors, LayerGradient, LayerMeasurement, LayerStep, Level, LoraLayer, ModuleFactors,
    ModuleShape, SavedState, StepGuide, UpdateReport, initial_row,
};

/// Ticks without a gradient after which a channel that has faded may begin anew.
const BASIS_IDLE_TICKS: u64 = 64;

/// One layer of the hierarchy, as the seeds mean it and the specification mends it (R3 to R21, R56).
///
/// # How it moves
/// - **Learning rate** of a module of rank `r`: `eta0 (reference_rank / r)^p (1 - alpha_eff)`, times `screened_rate` where
///   SCREENED, so that the weights of layers of different rank move in the proportion of their inertias (R4).
/// - **Inertia** `alpha_eff` starts at the level's own and grows with use; see [`LayerConfig::density`].
/// - **Phases**: activity is the mean of `|theta g|` relative to the module's. Above the threshold a parameter (or channel) is
///   SCREENED: it learns at a quarter of the rate and forgets a hundred times more slowly.
/// - **Homeostasis** moves the threshold so that the screened share, weighted by movement, stays in its band. Movement is the
///   squared step that the optimiser asks for, before `screened_rate`: with the step applied SCREENED parameters would
///   count a sixteenth, and the band would be met with 91 to 97 % of all parameters SCREENED.
/// - **Decay** goes by the clock. It is computed lazily and exactly: `advance` notes it in one addition for the
///   whole layer; an update, [`settle`](LoraLayer::settle), `factors_mut` and the transfer of channels write it. What
///   `factors` shows is what was last written: settle before a snapshot. A module whose `B` is zero costs nothing and stays clean.
///
/// # Memory
/// Moments, and the activity of single parameters, exist from the first update of a module on; a private layer drops them after
/// `moments_idle_ticks` without a gradient. Then parameters whose activity is needed again start from their channel's
/// mean, on the side of the threshold where their phase is.
#[derive(Debug, Clone)]
pub struct DynamicLoraLayer {
    pub(crate) level: Level,
    pub(crate) agent: u64,
    pub(crate) seed: u64,
    pub(crate) config: LayerConfig,
    pub(crate) base_inertia: f64,
    pub(crate) factors: LayerFactors,
    pub(crate) modules: Vec<ModuleDynamics>,
    pub(crate) inertia: Inertia,
    pub(crate) budget: EntropyBudget,
    pub(crate) clock: DecayClock,
    pub(crate) tick: u64,
    /// Tick of the last gradient.
    pub(crate) last_update: u64,
    /// Tick from which phases may change again.
    pub(crate) next_flip: u64,
    /// Flips since the last `advance`.
    pub(crate) flips: Flips,
    /// Rows to work in; no state.
    pub(crate) scratch: Scratch,
}

/// What a module has besides its factors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModuleDynamics {
    pub(crate) channels: Vec<ChannelRecord>,
    /// Present with [`Granularity::Param`].
    pub(crate) phases: Option<ParamPhases>,
    /// Activity of single parameters, in the gradient's layout.
    pub(crate) detail: Option<Vec<f32>>,
    pub(crate) moments: Option<Moments>,
    /// When its factors were last written by decay.
    pub(crate) mark: DecayClock,
    /// Whether any entry of `B` may be other than zero.
    pub(crate) is_live: bool,
    /// Whether it was written to since `take_dirty`.
    pub(crate) is_dirty: bool,
    /// Mean activity of its parameters after the last update.
    pub(crate) mean_activity: f64,
    /// Mean movement of recent updates.
    pub(crate) movement: Movement,
}

/// Adam's moments, in the gradient's layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    pub(crate) asked: Vec<f32>,
    pub(crate) screened: Vec<f32>,
    pub(crate) wanted: Vec<u8>,
    /// Changes of a module's rows of `B^T` that are mixed before they are applied.
    pub(crate) mixed: Vec<f32>,
}

impl ModuleDynamics {
    /// Phase of a row of `A` or of `B^T`.
    pub(crate) fn phase(&self, channel: usize, is_b: bool) -> RowPhase<'_> {
        match &self.phases {
            Some(phases) => RowPhase::Bits(&phases.bits[phases.row(channel, is_b)]),
            None => RowPhase::Whole(self.channels[channel].is_screened),
        }
    }

    /// SCREENED parameters of a channel.
    pub(crate) fn screened_in(&self, channel: usize, n_parameters: usize) -> u64 {
        match &self.phases {
            Some(phases) => phases.count(phases.row(channel, false)) + phases.count(phases.row(channel, true)),
            None => u64::from(self.channels[channel].is_screened) * n_parameters as u64,
        }
    }
}

impl DynamicLoraLayer {
    /// A layer that adds nothing yet: `A` from the seed, `B = 0`.
    ///
    /// `agent` addresses the random rows of a private layer and is ignored for a shared one; `ranks` has one entry a module.
    ///
    /// # Errors
    /// [`Error::Field`] if the configuration cannot be, [`Error::Module`] if ranks and modules do not match or a module has
    /// no rows, columns or channels.
    pub fn new(
        level: Level,
        agent: AgentId,
        shapes: &[ModuleShape],
        ranks: &[usize],
        seed: u64,
        config: LayerConfig,
    ) -> Result<Self, Error> {
        config.validate()?;
        if ranks.len() != shapes.len() {
            let name = shapes.get(ranks.len()).map_or("after the last", |shape| &shape.name);
            return Err(Error::module(name, "ranks for all modules", shapes.len(), ranks.len()));
        }
        for (shape, rank) in shapes.iter().zip(ranks) {
            let least = shape.d_in.min(shape.d_out).min(*rank);
            if least == 0 {
                return Err(Error::module(&shape.name, "rows, columns and channels", "at least 1 of each", least));
            }
        }
        let agent = if level.is_shared() { 0 } else { agent.0 };
        let n_parameters: usize = shapes.iter().zip(ranks).map(|(shape, rank)| rank * (shape.d_in + shape.d_out)).sum();
        let by_param = match config.granularity {
            Granularity::Param => true,
            Granularity::Channel => false,
            Granularity::Auto => n_parameters <= LayerConfig::MAX_PARAM_GRANULARITY,
        };
        let module = |(module, (shape, rank)): (usize, (&ModuleShape, &usize))| {
            let dynamics = ModuleDynamics {
                channels: vec![ChannelRecord::default(); *rank],
                phases: by_param.then(|| ParamPhases::new(*rank, shape.d_in, shape.d_out)),
                detail: None,
                moments: None,
                mark: DecayClock::default(),
                is_live: false,
                is_dirty: true,
                mean_activity: 0.0,
                movement: Movement::default(),
            };
            let address = FactorAddress { seed, level, agent, module };
            (Arc::new(ModuleFactors::fresh(shape, *rank, address)), dynamics)
        };
        let (factors, modules) = shapes.iter().zip(ranks).enumerate().map(module).unzip();
        Ok(Self {
            level,
            agent,
            seed,
            base_inertia: config.base_inertia.unwrap_or(level.base_inertia()),
            inertia: Inertia::new(&config),
            budget: EntropyBudget::new(&config),
            config,
            factors,
            modules,
            clock: DecayClock::default(),
            tick: 0,
            last_update: 0,
            next_flip: 0,
            flips: Flips::default(),
            scratch: Scratch::default(),
        })
    }

    /// How it moves.
    pub fn config(&self) -> &LayerConfig {
        &self.config
    }

    /// Whether single parameters have phases, not channels.
    pub fn has_param_phases(&self) -> bool {
        self.modules.iter().any(|module| module.phases.is_some())
    }

    /// `k` of `tanh(rho / k)`; `None` before there was use.
    pub fn density_scale(&self) -> Option<f64> {
        self.inertia.scale()
    }

    /// Fixes `k`, for example to the median over all layers (R8), and ends the warm-up. Anything but a finite number above 0
    /// is ignored.
    pub fn set_density_scale(&mut self, scale: f64) {
        if scale > 0.0 && scale.is_finite() {
            self.inertia.scale = Some(scale);
            self.inertia.samples = Vec::new();
        }
    }

    /// Bytes it holds: factors (though a snapshot may share them), moments, activity, phases and channels' records.
    pub fn memory_bytes(&self) -> usize {
        let floats = |values: &[f32]| size_of_val(values);
        let mut bytes = size_of::<Self>();
        for (factors, module) in self.factors.iter().zip(&self.modules) {
            bytes += size_of::<ModuleFactors>() + size_of::<ModuleDynamics>();
            bytes += floats(&factors.a) + floats(&factors.b) + size_of_val(&module.channels[..]);
            bytes += module.phases.as_ref().map_or(0, |phases| phases.bits.len());
            bytes += module.detail.as_ref().map_or(0, |activity| floats(activity));
            bytes += module.moments.as_ref().map_or(0, |m| floats(&m.first) + floats(&m.second));
        }
        bytes
    }

    pub(crate) fn address(&self, module: usize) -> FactorAddress {
        FactorAddress { seed: self.seed, level: self.level, agent: self.agent, module }
    }

    /// The row of `A` from which the present generation of a channel began.
    pub(crate) fn initial_a(&self, module: usize, channel: usize) -> impl Iterator<Item = f32> + use<> {
        let generation = self.modules[module].channels[channel].generation;
        initial_row(self.factors[module].d_in, self.address(module), channel, generation)
    }

    /// Whether decay goes by the clock.
    pub(crate) fn is_clocked(&self) -> bool {
        self.config.mechanisms.decay && self.config.decay == DecayMode::BOnly
    }

    /// Writes a module's decay up to now.
    pub(crate) fn settle_module(&mut self, module: usize) {
        let dynamics = &mut self.modules[module];
        let keep = self.clock.keep(dynamics.mark);
        dynamics.mark = self.clock;
        if !dynamics.is_live || keep == Keep::ALL {
            return;
        }
        if self.factors[module].b.iter().all(|b| *b == 0.0) {
            dynamics.is_live = false;
            return;
        }
        dynamics.is_dirty = true;
        let factors = Arc::make_mut(&mut self.factors[module]);
        for channel in 0..factors.rank {
            decay_row(factors.b_row_mut(channel), keep, dynamics.phase(channel, true));
        }
    }

    /// Begins faded channels anew, and notes whether anything is left of a module.
    fn refresh_basis(&mut self, module: usize) {
        let factors = &self.factors[module];
        let epsilon = self.config.basis_epsilon as f32;
        let peak = |channel: usize| factors.b_row(channel).iter().fold(0.0_f32, |peak, b| peak.max(b.abs()));
        let peaks: Vec<f32> = (0..factors.rank).map(peak).collect();
        for (channel, peak) in peaks.iter().enumerate() {
            if *peak > 0.0 && *peak < epsilon {
                let is_pinned = self.modules[module].channels[channel].is_pinned;
                let initial: Vec<f32> = self.initial_a(module, channel).collect();
                let factors = Arc::make_mut(&mut self.factors[module]);
                factors.b_row_mut(channel).fill(0.0);
                if !is_pinned {
                    factors.a_row_mut(channel).copy_from_slice(&initial);
                }
                self.modules[module].is_dirty = true;
            }
        }
        self.modules[module].is_live = peaks.iter().any(|peak| *peak > 0.0 && *peak >= epsilon);
    }

    /// Whether time has nothing to work on: the layer was never used and adds nothing.
    fn is_unused(&self) -> bool {
        self.inertia.n_eff.weight == 0.0 && self.modules.iter().all(|module| !module.is_live)
    }

    /// A tick passes. The screening threshold's new value where homeostasis moved it.
    fn pass_tick(&mut self) -> Option<f64> {
        self.tick += 1;
        self.inertia.advance(1, &self.config);
        if self.is_clocked() {
            self.clock.advance(1, self.effective_inertia(), &self.config);
        }
        self.regulate(self.tick)
    }

    /// Frees moments and detail.
    fn drop_moments(&mut self) {
        for module in &mut self.modules {
            module.moments = None;
            module.detail = None;
            module.channels.iter_mut().for_each(|record| record.n_steps = 0);
        }
        self.scratch = Scratch::default();
    }

    pub(crate) fn movement(&self) -> Movement {
        self.modules.iter().fold(Movement::default(), |sum, module| Movement {
            total: sum.total + module.movement.total,
            screened: sum.screened + module.movement.screened,
        })
    }

    /// The seed's `sum d v`, with `v` the squared distance from where a parameter began.
    fn seed_entropy(&self) -> f64 {
        let mut entropy = 0.0;
        for (i, (factors, module)) in self.factors.iter().zip(&self.modules).enumerate() {
            for channel in 0..factors.rank {
                let rows = [
                    (factors.a_row(channel), self.initial_a(i, channel).collect(), false),
                    (factors.b_row(channel), vec![0.0; factors.d_out], true),
                ];
                for (row, initial, is_b) in rows {
                    let phase = module.phase(channel, is_b);
                    for (k, (value, initial)) in row.iter().zip(initial).enumerate() {
                        let screened = phase.is_screened(k);
                        let rate = if screened { self.config.screened_decay } else { self.config.free_decay };
                        entropy += rate * f64::from(value - initial).powi(2);
                    }
                }
            }
        }
        entropy
    }

    /// The homeostatic step of a tick, if one is due.
    fn regulate(&mut self, tick: u64) -> Option<f64> {
        let mechanisms = self.config.mechanisms;
        let movement = self.movement();
        if !(mechanisms.homeostasis && mechanisms.screening && self.budget.is_due(tick, movement, &self.config)) {
            return None;
        }
        let entropy = match self.config.entropy {
            EntropyMode::Movement => movement_entropy(movement, &self.config)?,
            EntropyMode::Seed => self.seed_entropy(),
        };
        self.budget.step(tick, entropy, &self.config)
    }
}

/// Places of a channel in the gradient's layout: its row of `A`, its row of `B^T`.
pub(crate) fn channel_ranges(factors: &ModuleFactors, channel: usize) -> [std::ops::Range<usize>; 2] {
    let a = channel * factors.d_in;
    let b = factors.rank * factors.d_in + channel * factors.d_out;
    [a..a + factors.d_in, b..b + factors.d_out]
}

impl LoraLayer for DynamicLoraLayer {
    fn level(&self) -> Level {
        self.level
    }

    fn factors(&self) -> &LayerFactors {
        &self.factors
    }

    fn factors_mut(&mut self, module: usize) -> &mut ModuleFactors {
        self.settle_module(module);
        self.modules[module].is_dirty = true;
        self.modules[module].is_live = true;
        Arc::make_mut(&mut self.factors[module])
    }

    fn take_dirty(&mut self) -> Vec<usize> {
        let modules = self.modules.iter_mut().enumerate();
        modules.filter_map(|(i, module)| std::mem::take(&mut module.is_dirty).then_some(i)).collect()
    }

    fn update(&mut self, gradient: &LayerGradient<'_>, step: &LayerStep) -> UpdateReport {
        self.descend(gradient, step, &StepGuide::default())
    }

    fn update_guided(&mut self, gradient: &LayerGradient<'_>, step: &LayerStep, guide: &StepGuide<'_>) -> UpdateReport {
        self.descend(gradient, step, guide)
    }

    fn advance(&mut self, tick: u64) -> AdvanceReport {
        if self.is_unused() {
            self.tick = self.tick.max(tick);
        }
        if tick <= self.tick {
            return AdvanceReport::default();
        }
        let mut new_threshold = None;
        // One by one: the pace of each tick depends on the inertia that the one before has left.
        while self.tick < tick {
            new_threshold = self.pass_tick().or(new_threshold);
        }
        let idle = self.config.moments_idle_ticks;
        if idle > 0 && !self.level.is_shared() && tick.saturating_sub(self.last_update) >= idle {
            self.drop_moments();
        }
        let flips = std::mem::take(&mut self.flips);
        AdvanceReport { screened: flips.screened, freed: flips.freed, new_threshold }
    }

    fn rests_until(&self, now: u64) -> Option<u64> {
        if self.is_clocked() && self.modules.iter().any(|module| module.is_live) {
            return Some(now.saturating_add(1));
        }
        let idle = self.config.moments_idle_ticks;
        let holds = |module: &ModuleDynamics| module.moments.is_some() || module.detail.is_some();
        let will_drop = idle > 0 && !self.level.is_shared() && self.modules.iter().any(holds);
        will_drop.then(|| self.last_update.saturating_add(idle).max(now.saturating_add(1)))
    }

    fn settle(&mut self) {
        let is_idle = self.tick.saturating_sub(self.last_update) >= BASIS_IDLE_TICKS;
        for module in 0..self.modules.len() {
            let lost = 1.0 - self.clock.left(self.modules[module].mark);
            if self.modules[module].is_live && lost > 0.0 && lost >= self.config.settle_tolerance {
                self.settle_module(module);
                if is_idle {
                    self.refresh_basis(module);
                }
            }
        }
    }

    fn restart_moments(&mut self) {
        for module in &mut self.modules {
            module.moments = None;
            module.channels.iter_mut().for_each(|record| record.n_steps = 0);
        }
    }

    fn channel(&self, module: usize, channel: usize) -> ChannelState {
        self.channel_state(module, channel)
    }

    fn copy_channel(&self, module: usize, channel: usize) -> Channel {
        self.channel_copy(module, channel)
    }

    fn put_channel(&mut self, module: usize, channel: usize, value: Channel) {
        self.channel_put(module, channel, &value);
    }

    fn reset_channel(&mut self, module: usize, channel: usize) {
        self.channel_reset(module, channel);
    }

    fn pin_channel(&mut self, module: usize, channel: usize, pinned: bool) {
        self.modules[module].channels[channel].is_pinned = pinned;
    }

    fn effective_inertia(&self) -> f64 {
        self.inertia.effective(self.base_inertia, &self.config)
    }

    fn time_constant(&self) -> f64 {
        // The pace that inertia sets, whether or not anything decays by it (R10).
        let rate = match self.config.decay {
            DecayMode::SeedBothFactors => self.config.free_decay,
            DecayMode::BOnly => layer_rate(self.config.free_decay, self.effective_inertia()),
        };
        -1.0 / (-rate).ln_1p()
    }

    fn measure(&self) -> LayerMeasurement {
        let (mut screened, mut was_updated) = (0, false);
        for (factors, module) in self.factors.iter().zip(&self.modules) {
            was_updated |= module.mean_activity > 0.0;
            screened += (0..factors.rank).map(|j| module.screened_in(j, factors.d_in + factors.d_out)).sum::<u64>();
        }
        let has_phases = self.config.mechanisms.screening;
        LayerMeasurement {
            // Without phases there is neither a share that has one nor a band for it.
            entropy_ratio: movement_entropy(self.movement(), &self.config)
                .filter(|_| has_phases)
                .map(|entropy| entropy / optimal_entropy(&self.config)),
            screening_rate: (was_updated && has_phases).then(|| screened as f64 / self.num_parameters().max(1) as f64),
            screening_threshold: self.budget.threshold,
            interaction_density: self.inertia.density(&self.config),
        }
    }

    fn state(&self) -> SavedState {
        self.save_state()
    }

    fn summary(&self) -> SavedState {
        self.save_summary()
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), Error> {
        self.load_state(state)
    }
}

#[cfg(test)]
mod tests;
