//! How the gradients of many agents and of many time-scales are weighed against each other.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::{AgentId, Error, Level, SavedState, StateReader};

/// Weighs gradients against each other; open to implementers.
///
/// In a tick, a hierarchy calls [`horizontal`](Self::horizontal) once for each shared layer that has gradients, then
/// [`vertical`](Self::vertical) once for each agent that has a batch, then [`end_tick`](Self::end_tick).
///
/// Implementers keep four promises. The order of agents within a tick changes no bit of any result. Gradients that are zero
/// or not finite are left out and counted, never remembered. Every result is finite for finite input. An engine into
/// which [`state`](Self::state) of another was [restored](Self::restore) continues exactly as the other would have; an
/// implementation that keeps, say, a map in the order of insertion breaks the first and the last promise at once, and a
/// `BTreeMap` mends it.
pub trait Resonance: Debug + Send + Sync + 'static {
    /// Combines the agents' gradients of one shared layer into `aggregate`.
    ///
    /// Each gradient and `aggregate` have the same length P: all modules of the layer, concatenated. What `aggregate` held
    /// before does not matter.
    ///
    /// # Panics
    /// If a gradient has another length than `aggregate`.
    fn horizontal(&mut self, level: Level, gradients: &[(AgentId, &[f32])], aggregate: &mut [f32]) -> Horizontal;

    /// Takes in the sketch (k numbers) of `dL/dW` of one agent's batch of this tick and says how the gradients of its five
    /// layers are to be scaled.
    ///
    /// # Panics
    /// If `sketch` has another length than the sketches before it.
    fn vertical(&mut self, agent: AgentId, sketch: &[f32]) -> Vertical;

    /// Ends the tick: windows close, remembered directions move.
    fn end_tick(&mut self);

    /// What happened so far.
    fn statistics(&self) -> ResonanceStatistics;

    /// Everything that the next tick depends on, and the statistics.
    fn state(&self) -> SavedState;

    /// Takes over a state made by an implementation of the same kind with the same settings.
    ///
    /// # Errors
    /// [`Error::State`] for an entry that is missing or cannot be; nothing has changed then.
    fn restore(&mut self, state: &SavedState) -> Result<(), Error>;
}

impl<R: Resonance + ?Sized> Resonance for Box<R> {
    fn horizontal(&mut self, level: Level, gradients: &[(AgentId, &[f32])], aggregate: &mut [f32]) -> Horizontal {
        (**self).horizontal(level, gradients, aggregate)
    }

    fn vertical(&mut self, agent: AgentId, sketch: &[f32]) -> Vertical {
        (**self).vertical(agent, sketch)
    }

    fn end_tick(&mut self) {
        (**self).end_tick();
    }

    fn statistics(&self) -> ResonanceStatistics {
        (**self).statistics()
    }

    fn state(&self) -> SavedState {
        (**self).state()
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), Error> {
        (**self).restore(state)
    }
}

/// What combining the gradients of one shared layer found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Horizontal {
    /// How much the agents agree, 0 to 1: the mean resultant length of their directions without its bias for few agents;
    /// `None` for fewer than two usable gradients.
    pub consensus: Option<f64>,
    /// What each gradient's direction was weighed with, in the order given: 1 changes nothing, 0 left it out.
    pub factors: Vec<f64>,
    /// Agents that have opposed the others for long, ascending: this gradient belongs at full strength in their private
    /// layer.
    pub dissent: Vec<AgentId>,
    /// The Euclidean norm of the aggregate.
    pub norm: f64,
}

impl Horizontal {
    /// The outcome of one aggregation.
    pub fn new(consensus: Option<f64>, factors: Vec<f64>, dissent: Vec<AgentId>, norm: f64) -> Self {
        Self { consensus, factors, dissent, norm }
    }
}

/// What the time-scales say about a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// Nothing in particular, or too little history to tell.
    #[default]
    Normal,
    /// All of them agree: the pattern is universal and may move to slower layers faster.
    FastTrack,
    /// The batch opposes the history: fast layers are damped and nothing moves to slower ones.
    Conflict,
    /// The batches have opposed the history for long and agree with each other: the world has changed.
    Shift,
}

/// How one agent's batch stands to the history of each time-scale.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Vertical {
    /// The verdict.
    pub signal: Signal,
    /// How much the time-scales agree with each other, -1 to 1; `None` with too little history.
    pub alignment: Option<f64>,
    /// How much the batch agrees with the slower time-scales, -1 to 1, low values being conflict; `None` with too little
    /// history.
    pub conflict: Option<f64>,
    /// What to scale the gradient of each layer with, by [`Level::index`]: one agent's layers directly, a shared layer's
    /// aggregate with the mean over the agents.
    pub factors: [f32; 5],
}

impl Vertical {
    /// The outcome for one batch.
    pub fn new(signal: Signal, alignment: Option<f64>, conflict: Option<f64>, factors: [f32; 5]) -> Self {
        Self { signal, alignment, conflict, factors }
    }

    /// The outcome where nothing is known: all factors 1.
    pub fn unknown() -> Self {
        Self::new(Signal::Normal, None, None, [1.0; 5])
    }
}

/// Counts of what happened since the beginning, restores included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ResonanceStatistics {
    /// Ticks ended.
    pub ticks: u64,
    /// Aggregations of a shared layer.
    pub aggregations: u64,
    /// Gradients that took part in aggregations.
    pub gradients: u64,
    /// Gradients left out because they were zero or not finite.
    pub gradients_skipped: u64,
    /// Gradients that opposed the others.
    pub opposing: u64,
    /// Gradients that were routed to a private layer because their agent has opposed the others for long.
    pub dissents: u64,
    /// Batches judged vertically; the sum of the four signals.
    pub operations: u64,
    /// Sketches left out because they were zero or not finite.
    pub sketches_skipped: u64,
    /// Batches judged [`Signal::Normal`].
    pub normal: u64,
    /// Batches judged [`Signal::FastTrack`].
    pub fast_track: u64,
    /// Batches judged [`Signal::Conflict`].
    pub conflict: u64,
    /// Batches judged [`Signal::Shift`].
    pub shift: u64,
    /// Pairs of time-scales that were compared.
    pub pairs: u64,
    /// Sum over those pairs of the cosine in units of its noise.
    pub sum_z: f64,
    /// Sum over those pairs of the size of the cosine in units of its noise: 0.8 a pair where there is no signal at all.
    pub sum_abs_z: f64,
}

/// Fewer events than this give no ratio.
const LEAST_EVENTS: u64 = 20;

impl ResonanceStatistics {
    /// The share of batches judged [`Signal::FastTrack`]; `None` below 20 batches.
    pub fn fast_track_rate(&self) -> Option<f64> {
        ratio(self.fast_track as f64, self.operations)
    }

    /// The share of batches judged [`Signal::Conflict`]; `None` below 20 batches.
    pub fn conflict_rate(&self) -> Option<f64> {
        ratio(self.conflict as f64, self.operations)
    }

    /// The share of batches judged [`Signal::Shift`]; `None` below 20 batches.
    pub fn shift_rate(&self) -> Option<f64> {
        ratio(self.shift as f64, self.operations)
    }

    /// The share of aggregated gradients that opposed the others; `None` below 20 gradients.
    pub fn opposing_rate(&self) -> Option<f64> {
        ratio(self.opposing as f64, self.gradients)
    }

    /// The mean cosine between time-scales in units of its noise; `None` below 20 pairs.
    pub fn mean_z(&self) -> Option<f64> {
        ratio(self.sum_z, self.pairs)
    }

    /// The mean size of that: 0.8 (the mean of |N(0, 1)|) says that there is no signal; `None` below 20 pairs.
    pub fn mean_abs_z(&self) -> Option<f64> {
        ratio(self.sum_abs_z, self.pairs)
    }

    /// Counts one verdict.
    pub fn count(&mut self, signal: Signal) {
        self.operations += 1;
        match signal {
            Signal::Normal => self.normal += 1,
            Signal::FastTrack => self.fast_track += 1,
            Signal::Conflict => self.conflict += 1,
            Signal::Shift => self.shift += 1,
        }
    }

    /// Writes all fields into `state`, each under `statistics.` and its name.
    pub fn save(&self, state: &mut SavedState) {
        let mut copy = self.clone();
        for (name, count) in copy.counts() {
            state.set_number(format!("statistics.{name}"), *count as f64);
        }
        state.set_number("statistics.sum_z", self.sum_z);
        state.set_number("statistics.sum_abs_z", self.sum_abs_z);
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::State`] for a missing or impossible entry.
    pub fn load(state: &StateReader<'_>) -> Result<Self, Error> {
        let mut statistics = Self::default();
        for (name, count) in statistics.counts() {
            *count = state.integer(&format!("statistics.{name}"))?;
        }
        statistics.sum_z = state.number("statistics.sum_z")?;
        statistics.sum_abs_z = state.number("statistics.sum_abs_z")?;
        Ok(statistics)
    }

    fn counts(&mut self) -> [(&'static str, &mut u64); 13] {
        [
            ("ticks", &mut self.ticks),
            ("aggregations", &mut self.aggregations),
            ("gradients", &mut self.gradients),
            ("gradients_skipped", &mut self.gradients_skipped),
            ("opposing", &mut self.opposing),
            ("dissents", &mut self.dissents),
            ("operations", &mut self.operations),
            ("sketches_skipped", &mut self.sketches_skipped),
            ("normal", &mut self.normal),
            ("fast_track", &mut self.fast_track),
            ("conflict", &mut self.conflict),
            ("shift", &mut self.shift),
            ("pairs", &mut self.pairs),
        ]
    }
}

fn ratio(part: f64, whole: u64) -> Option<f64> {
    (whole >= LEAST_EVENTS).then(|| part / whole as f64)
}

/// No resonance at all: the mean of the gradients, every factor 1, every batch normal. The baseline of every ablation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlainMean {
    statistics: ResonanceStatistics,
}

impl Resonance for PlainMean {
    fn horizontal(&mut self, _level: Level, gradients: &[(AgentId, &[f32])], aggregate: &mut [f32]) -> Horizontal {
        // By agent, so that the order given does not change how sums are rounded.
        let mut order: Vec<usize> = (0..gradients.len()).collect();
        order.sort_by_key(|index| gradients[*index].0);
        let mut factors = vec![0.0; gradients.len()];
        let mut used = Vec::with_capacity(gradients.len());
        for index in order {
            let (agent, gradient) = gradients[index];
            assert_eq!(gradient.len(), aggregate.len(), "agent {agent}: length of the gradient and of the aggregate");
            let usable = gradient.iter().all(|value| value.is_finite()) && gradient.iter().any(|value| *value != 0.0);
            if usable {
                factors[index] = 1.0;
                used.push(gradient);
            }
        }
        self.statistics.aggregations += 1;
        self.statistics.gradients += used.len() as u64;
        self.statistics.gradients_skipped += (gradients.len() - used.len()) as u64;
        let mut squares = 0.0;
        for (index, out) in aggregate.iter_mut().enumerate() {
            let sum: f64 = used.iter().map(|gradient| f64::from(gradient[index])).sum();
            *out = (sum / used.len().max(1) as f64) as f32;
            squares += f64::from(*out) * f64::from(*out);
        }
        Horizontal::new(None, factors, Vec::new(), squares.sqrt())
    }

    fn vertical(&mut self, _agent: AgentId, _sketch: &[f32]) -> Vertical {
        self.statistics.count(Signal::Normal);
        Vertical::unknown()
    }

    fn end_tick(&mut self) {
        self.statistics.ticks += 1;
    }

    fn statistics(&self) -> ResonanceStatistics {
        self.statistics.clone()
    }

    fn state(&self) -> SavedState {
        let mut state = SavedState::default();
        self.statistics.save(&mut state);
        state
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), Error> {
        self.statistics = ResonanceStatistics::load(&state.reader())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const _OBJECT_SAFE: Option<Box<dyn Resonance>> = None;

    #[test]
    fn the_plain_mean_leaves_out_what_is_not_a_gradient() {
        let mut mean = PlainMean::default();
        let mut out = [9.0; 2];
        let gradients: [(AgentId, &[f32]); 4] = [
            (AgentId(3), &[1.0, 3.0]),
            (AgentId(1), &[f32::NAN, 0.0]),
            (AgentId(2), &[0.0, 0.0]),
            (AgentId(0), &[3.0, -3.0]),
        ];
        let found = mean.horizontal(Level::Swarm, &gradients, &mut out);
        assert_eq!(out, [2.0, 0.0]);
        assert_eq!((found.factors, found.norm), (vec![1.0, 0.0, 0.0, 1.0], 2.0));
        mean.horizontal(Level::Swarm, &[], &mut out);
        assert_eq!(out, [0.0, 0.0]);
        assert_eq!(mean.vertical(AgentId(0), &[1.0]), Vertical::unknown());
        mean.end_tick();

        let statistics = mean.statistics();
        assert_eq!((statistics.gradients, statistics.gradients_skipped, statistics.operations), (2, 2, 1));
        assert_eq!(statistics.conflict_rate(), None);
        let mut restored = PlainMean::default();
        restored.restore(&mean.state()).unwrap();
        assert_eq!(restored, mean);
    }

    #[test]
    fn a_damaged_state_is_refused_by_entry() {
        let refuse = |damage: fn(&mut SavedState), expected: &str| {
            let mut state = PlainMean::default().state();
            damage(&mut state);
            assert_eq!(PlainMean::default().restore(&state).unwrap_err().to_string(), expected);
        };
        refuse(
            |state| state.numbers.retain(|(name, _)| name != "statistics.shift"),
            "entry `statistics.shift` of the saved state: expected a number, found nothing",
        );
        refuse(
            |state| state.numbers[0].1 = 0.5,
            "entry `statistics.ticks` of the saved state: expected a whole number from 0 to 2^53, found 0.5",
        );
        refuse(
            |state| state.numbers[0].1 = f64::NAN,
            "entry `statistics.ticks` of the saved state: expected a finite number, found NaN",
        );
    }

    #[test]
    fn ratios_need_twenty_events() {
        let mut statistics = ResonanceStatistics::default();
        for _ in 0..19 {
            statistics.count(Signal::Conflict);
        }
        assert_eq!(statistics.conflict_rate(), None);
        statistics.count(Signal::Normal);
        assert_eq!(statistics.conflict_rate(), Some(0.95));
        assert_eq!(statistics.fast_track_rate(), Some(0.0));
        assert_eq!(statistics.mean_z(), None);
    }
}
