//! The contract of a layer.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::{Error, LayerFactors, Level, ModuleFactors, SavedState, StepGuide};

/// One layer of the hierarchy: factors for every module, and how they move.
///
/// Open to implementations of other crates, object-safe. The hierarchy owns the layers, calls them in the order of
/// the hierarchy's tick, and moves channels between them; a layer never looks at another.
///
/// # Contract
/// - `factors` are what a snapshot takes. Writing copies a module's factors if a snapshot still holds them
///   (`Arc::make_mut`), and marks the module dirty.
/// - `update` descends along a gradient, and `advance` does what time alone does (phases, decay, homeostasis). Both depend on
///   their arguments and the layer's state alone.
/// - `take_channel` and `put_channel` carry everything that belongs to a channel, moments included; a channel that is put
///   back where it was taken from leaves the layer as it was.
pub trait LoraLayer: Debug + Send + Sync + 'static {
    /// Which time-scale it is.
    fn level(&self) -> Level;
    /// The factors, one entry a module.
    fn factors(&self) -> &LayerFactors;
    /// A module's factors to write to.
    fn factors_mut(&mut self, module: usize) -> &mut ModuleFactors;
    /// Modules written to since the last call: a snapshot is due for them.
    fn take_dirty(&mut self) -> Vec<usize>;

    /// Descends along a gradient.
    fn update(&mut self, gradient: &LayerGradient<'_>, step: &LayerStep) -> UpdateReport;
    /// Descends along a gradient with a guide. A layer that knows no guides takes the plain step.
    fn update_guided(&mut self, gradient: &LayerGradient<'_>, step: &LayerStep, guide: &StepGuide<'_>) -> UpdateReport {
        let _ = guide;
        self.update(gradient, step)
    }
    /// Lets time pass until `tick`, as if called for every tick in between: phases, decay, entropy budget.
    fn advance(&mut self, tick: u64) -> AdvanceReport;
    /// The tick after `now` at which time alone next does something to the factors or frees memory; `None` for never. Until
    /// then the layer may be left alone while it is not used.
    fn rests_until(&self, now: u64) -> Option<u64> {
        Some(now.saturating_add(1))
    }
    /// Writes what time has done to the factors: to be called before `factors` are read for a snapshot. A layer may
    /// otherwise note decay and compute it when a channel is next touched.
    fn settle(&mut self) {}

    /// Begins the optimiser's moments anew: a new regime of data has begun, and a second moment of the settled gradients before
    /// it would make the first steps many times too long.
    fn restart_moments(&mut self) {}

    /// State of a channel.
    fn channel(&self, module: usize, channel: usize) -> ChannelState;
    /// A copy of all that belongs to a channel.
    fn copy_channel(&self, module: usize, channel: usize) -> Channel;
    /// Puts a channel in place of another.
    fn put_channel(&mut self, module: usize, channel: usize, value: Channel);
    /// Begins a channel anew: the next generation of its initial row of `A`, `b = 0`, no moments, no activity.
    fn reset_channel(&mut self, module: usize, channel: usize);
    /// Marks a channel that is moving: its row of `A` stands still until it is unpinned, or the two halves of the channel
    /// would drift apart.
    fn pin_channel(&mut self, module: usize, channel: usize, pinned: bool);

    /// `alpha_eff` in `[0, 1)`: base inertia and what use has added.
    fn effective_inertia(&self) -> f64;
    /// Ticks over which a free channel loses all but 1/e without use, at the present inertia: the layer's pace, also where decay is
    /// switched off.
    fn time_constant(&self) -> f64;
    /// Measurements for health.
    fn measure(&self) -> LayerMeasurement;

    /// All there is to restore.
    fn state(&self) -> SavedState;
    /// The small part of the state, for the digest in each record of the provenance: numbers on which the rest leaves its
    /// mark.
    fn summary(&self) -> SavedState {
        SavedState { tensors: Vec::new(), ..self.state() }
    }
    /// Goes on from a state of the same layer.
    ///
    /// # Errors
    /// [`Error::State`] where the state belongs to a layer of another shape.
    fn restore(&mut self, state: &SavedState) -> Result<(), Error>;

    /// Parameters in all modules.
    fn num_parameters(&self) -> usize {
        self.factors().iter().map(|factors| factors.num_parameters()).sum()
    }
}

/// A gradient of one layer and what came with it.
#[derive(Debug, Clone, Copy)]
pub struct LayerGradient<'a> {
    /// Flat: for each module the gradient of `A` `(r, d_in)`, then that of `B^T` `(r, d_out)`.
    pub values: &'a [f32],
    /// Mean over rows of `h^2` of each channel, modules one after another; empty where it was not measured.
    pub usage: &'a [f32],
    /// Agents (or, for private layers, sessions or requests) behind it and each one's share of the rows; sums to 1.
    pub shares: &'a [f64],
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerStep {
    /// The tick.
    pub tick: u64,
    /// The hierarchy's learning rate `eta0` at this tick.
    pub learning_rate: f64,
    /// Factor on the gradient: resonance and staleness.
    pub strength: f64,
    /// Whether to restore the plasticity that inertia has taken (a `SHIFT`).
    pub release: bool,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UpdateReport {
    /// Frobenius norm of the change of `dW`, over modules, to first order in the change of the factors.
    pub change: f64,
    /// Euclidean norm of the change of the factors.
    pub parameter_change: f64,
    /// The learning rate applied.
    pub learning_rate: f64,
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AdvanceReport {
    /// Parameters (or channels, by granularity) that became SCREENED.
    pub screened: u64,
    /// Parameters (or channels) that became FREE.
    pub freed: u64,
    /// The screening threshold's new value where homeostasis moved it.
    pub new_threshold: Option<f64>,
}

/// What a layer says of itself. `None` where there is too little data.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct LayerMeasurement {
    /// Entropy over its optimum (R20, R21).
    pub entropy_ratio: Option<f64>,
    /// Share of parameters that are SCREENED.
    pub screening_rate: Option<f64>,
    /// The adaptive threshold.
    pub screening_threshold: f64,
    /// Normalised interaction density `rho`.
    pub interaction_density: Option<f64>,
}

/// State of a channel besides its values.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ChannelState {
    /// Activity relative to the mean of its module.
    pub activity: f32,
    /// SCREENED rather than FREE (by majority where single parameters have phases).
    pub is_screened: bool,
    /// Whether it is moving.
    pub is_pinned: bool,
    /// Ticks for which it stays SCREENED whatever its activity: credit for a channel that has just arrived (R19).
    pub credit_ticks: u32,
    /// How often it was begun anew.
    pub generation: u32,
}

/// All that belongs to a channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Channel {
    /// Row of `A`, `(d_in)`.
    pub a: Vec<f32>,
    /// Row of `B^T`, `(d_out)`.
    pub b: Vec<f32>,
    /// Moments of the optimiser, in the layer's own layout; empty where there are none.
    pub moments: Vec<f32>,
    /// The rest.
    pub state: ChannelState,
}
