//! Horizontal resonance: the gradients of many agents for one shared layer become one.

use std::collections::BTreeMap;

use dynlora_core::{AgentId, Error as CoreError, Horizontal, SavedState, StateReader};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::consensus::{Products, debiased_resultant, dot, norm};
use crate::null_calibration::{NullCalibration, z_score};
use crate::voices::Voices;

/// How agents' gradients are weighed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HorizontalMode {
    /// The seed's words, for ablation: `1 + alpha a` or `1 - beta a` with the raw dot product `a = g . direction`, a direction
    /// that the first batch sets for ever, no guard of the norm. Opposition is amplified (`1 + beta |a|`), as there.
    Seed,
    /// As [`Resonance`](Self::Resonance) with the cosine in place of `tanh(z / z0)` and without memory, for ablation.
    Cosine,
    /// Cosines with the others' consensus in units of their noise.
    #[default]
    Resonance,
}

/// Settings of [`HorizontalResonance`]. Defaults are those that `docs/benchmarks/resonance.md` was measured with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HorizontalConfig {
    /// How gradients are weighed; default `resonance`.
    pub mode: HorizontalMode,
    /// Amplification of agreement, >= 0; default 1 (the seed's is 0.5). An aligned gradient weighs up to `1 + alpha`.
    pub alpha: f64,
    /// Damping of opposition, 0 to 1; default 1 (the seed's is 0.3). An opposing gradient weighs down to `1 - beta`.
    pub beta: f64,
    /// The z at which `tanh(z / z0)` bends, > 0; default 3. Smaller separates sooner and trusts chance more.
    pub z0: f64,
    /// The least weight, 0 < floor <= 1; default 0.1, so that a minority that is right can still turn the majority.
    pub floor: f64,
    /// Weight of this tick's gradients against the remembered direction, 0 to 1; default 0.5.
    pub batch_weight: f64,
    /// What is left of the remembered direction after a tick, 0 <= decay < 1; default 0.9.
    pub direction_decay: f64,
    /// A gradient with a z below minus this opposes; default 3, > 0.
    pub dissent_z: f64,
    /// Aggregations in which an agent must oppose before its gradient is routed to its private layer; default 4, >= 1.
    /// One in which it agrees (z > 0) starts the count anew.
    pub dissent_windows: u32,
}

impl Default for HorizontalConfig {
    fn default() -> Self {
        Self {
            mode: HorizontalMode::Resonance,
            alpha: 1.0,
            beta: 1.0,
            z0: 3.0,
            floor: 0.1,
            batch_weight: 0.5,
            direction_decay: 0.9,
            dissent_z: 3.0,
            dissent_windows: 4,
        }
    }
}

impl HorizontalConfig {
    /// The seed: its formula with alpha 0.5 and beta 0.3.
    pub fn seed() -> Self {
        Self { mode: HorizontalMode::Seed, alpha: 0.5, beta: 0.3, ..Self::default() }
    }

    /// Plain cosines with the seed's alpha 0.5 and beta 0.3.
    pub fn cosine() -> Self {
        Self { mode: HorizontalMode::Cosine, alpha: 0.5, beta: 0.3, ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let finite = |value: f64| value.is_finite();
        Error::unless(self.alpha >= 0.0 && finite(self.alpha), "alpha", "a number of at least 0", self.alpha)?;
        Error::unless((0.0..=1.0).contains(&self.beta), "beta", "a number from 0 to 1", self.beta)?;
        Error::unless(self.z0 > 0.0 && finite(self.z0), "z0", "a number above 0", self.z0)?;
        Error::unless(self.floor > 0.0 && self.floor <= 1.0, "floor", "a number above 0 and at most 1", self.floor)?;
        let weight = self.batch_weight;
        Error::unless((0.0..=1.0).contains(&weight), "batch_weight", "a number from 0 to 1", weight)?;
        let decay = self.direction_decay;
        Error::unless((0.0..1.0).contains(&decay), "direction_decay", "a number from 0 and below 1", decay)?;
        Error::unless(self.dissent_z > 0.0, "dissent_z", "a number above 0", self.dissent_z)?;
        Error::unless(self.dissent_windows >= 1, "dissent_windows", "at least 1", self.dissent_windows)
    }
}

/// What is known of one agent's stance.
#[derive(Debug, Clone, PartialEq)]
struct Stance {
    cosine: Option<f64>,
    opposed: u32,
    seen: u64,
}

/// Combines the gradients of many agents into one, again and again.
///
/// With `u_i = g_i / |g_i|`, the consensus that agent i is held against is
/// `normalise(w normalise(sum_{j != i} u_j) + (1 - w) direction)`: without itself, and with the direction remembered from
/// earlier ticks (`w = 1` in the first). The cosine, over its noise `sigma0` ([`NullCalibration`]), is `z_i`, and
///
/// ```text
/// factor_i  = 1 + alpha tanh(z_i / z0)                   where z_i >= 0
///           = max(floor, 1 - beta tanh(|z_i| / z0))      where z_i < 0
/// aggregate = |mean_i min(|g_i|, median |g|) u_i|  normalise(sum_i factor_i u_i)
/// ```
///
/// so the step is as long as without resonance and only its direction changes. A single gradient passes as it is. After the
/// tick, `direction` moves to the mean of the ticks' unit aggregates, decayed by `direction_decay`.
///
/// O(n P) time with three passes over the gradients, 2 P numbers of memory.
///
/// Departures from the seed: the sign of damping; cosines in place of dot products, in units of their noise; no agent is compared
/// with itself; the order of arrival does not matter; the direction moves; the length of the step is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct HorizontalResonance {
    config: HorizontalConfig,
    /// Decayed sum of unit aggregates; empty before the first tick's end. In the seed's mode the first batch's direction.
    direction: Vec<f32>,
    /// Sum of unit aggregates of this tick.
    pending: Vec<f32>,
    pending_calls: u64,
    stances: BTreeMap<AgentId, Stance>,
    calls: u64,
    null: NullCalibration,
}

/// What an aggregation counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) used: u64,
    pub(crate) skipped: u64,
    pub(crate) opposing: u64,
}

/// An agent that was absent for more aggregations than this is forgotten.
const FORGET_AFTER: u64 = 256;

impl HorizontalResonance {
    /// An aggregator without memory yet.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(config: HorizontalConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self::fresh(config))
    }

    /// Combines `gradients`, each of length P, into `aggregate` (P).
    ///
    /// Zero gradients and those with a value that is not finite get factor 0 and leave no trace. If none is left the
    /// aggregate is zero. A P other than before starts the memory anew.
    ///
    /// # Panics
    /// If a gradient has another length than `aggregate`.
    pub fn aggregate(&mut self, gradients: &[(AgentId, &[f32])], aggregate: &mut [f32]) -> Horizontal {
        self.combine(gradients, aggregate).0
    }

    /// Ends the tick: the remembered direction moves, once for all aggregations since the last end.
    pub fn end_tick(&mut self) {
        self.null.end_tick();
        if self.pending_calls == 0 {
            return;
        }
        let decay = self.config.direction_decay;
        let gain = (1.0 - decay) / self.pending_calls as f64;
        self.direction.resize(self.pending.len(), 0.0);
        for (direction, pending) in self.direction.iter_mut().zip(&mut self.pending) {
            *direction = (decay * f64::from(*direction) + gain * f64::from(*pending)) as f32;
            *pending = 0.0;
        }
        self.pending_calls = 0;
        let calls = self.calls;
        self.stances.retain(|_, stance| calls - stance.seen <= FORGET_AFTER);
    }

    /// The remembered direction, of any length (only its direction is used); empty before the end of the first tick.
    pub fn direction(&self) -> &[f32] {
        &self.direction
    }

    pub(crate) fn combine(&mut self, gradients: &[(AgentId, &[f32])], aggregate: &mut [f32]) -> (Horizontal, Counts) {
        for (agent, gradient) in gradients {
            assert_eq!(gradient.len(), aggregate.len(), "agent {agent}: length of the gradient and of the aggregate");
        }
        if self.direction.len() != aggregate.len() && !self.direction.is_empty() {
            *self = Self { calls: self.calls, ..Self::fresh(self.config.clone()) };
        }
        if self.pending.len() != aggregate.len() {
            self.pending = vec![0.0; if self.config.mode == HorizontalMode::Resonance { aggregate.len() } else { 0 }];
            self.pending_calls = 0;
        }
        self.calls += 1;
        let voices = Voices::new(gradients);
        let mut found = Horizontal::new(None, vec![0.0; gradients.len()], Vec::new(), 0.0);
        let mut counts = Counts { skipped: (gradients.len() - voices.len()) as u64, ..Counts::default() };
        counts.used = voices.len() as u64;
        if voices.len() == 0 {
            aggregate.fill(0.0);
            return (found, counts);
        }
        let factors = match self.config.mode {
            HorizontalMode::Seed => self.seed_factors(&voices, &mut found, &mut counts),
            HorizontalMode::Cosine | HorizontalMode::Resonance => self.factors(&voices, &mut found, &mut counts),
        };
        for (factor, place) in factors.iter().zip(&voices.places) {
            found.factors[*place] = *factor;
        }
        found.norm = match self.config.mode {
            HorizontalMode::Seed => voices.weighted_mean(&factors, aggregate),
            HorizontalMode::Cosine | HorizontalMode::Resonance => voices.guarded_sum(&factors, aggregate),
        };
        if self.config.mode == HorizontalMode::Resonance && found.norm > 0.0 {
            let inverse = 1.0 / found.norm;
            for (pending, value) in self.pending.iter_mut().zip(&*aggregate) {
                *pending += (f64::from(*value) * inverse) as f32;
            }
            self.pending_calls += 1;
        }
        (found, counts)
    }

    /// Factors of [`HorizontalMode::Resonance`] and [`HorizontalMode::Cosine`], in the order of `voices`.
    fn factors(&mut self, voices: &Voices<'_>, found: &mut Horizontal, counts: &mut Counts) -> Vec<f64> {
        let n = voices.len();
        if n == 1 {
            return vec![1.0];
        }
        let standardised = self.config.mode == HorizontalMode::Resonance;
        let memory = (standardised && !self.direction.is_empty()).then_some(self.direction.as_slice());
        let products = Products::new(&voices.gradients, &voices.inverse_norms, memory);
        found.consensus = debiased_resultant(products.length_of_total(), n);
        let mut differences = Vec::with_capacity(n);
        let mut factors = Vec::with_capacity(n);
        for (index, agent) in voices.agents.iter().enumerate() {
            let Some(alignment) = products.alignment(index, self.config.batch_weight) else {
                factors.push(1.0);
                continue;
            };
            let z = z_score(alignment.cosine, self.null.sigma(alignment.flips));
            let strength = if standardised { (z / self.config.z0).tanh() } else { alignment.cosine };
            counts.opposing += u64::from(strength < 0.0);
            factors.push(if strength >= 0.0 {
                1.0 + self.config.alpha * strength
            } else {
                (1.0 + self.config.beta * strength).max(self.config.floor)
            });
            if !standardised {
                continue;
            }
            let stance = self.stances.entry(*agent).or_insert(Stance { cosine: None, opposed: 0, seen: 0 });
            if let Some(before) = stance.cosine.replace(alignment.cosine) {
                differences.push(alignment.cosine - before);
            }
            stance.seen = self.calls;
            if z < -self.config.dissent_z {
                stance.opposed = (stance.opposed + 1).min(self.config.dissent_windows);
            } else if z > 0.0 {
                stance.opposed = 0;
            }
            if stance.opposed == self.config.dissent_windows && found.dissent.last() != Some(agent) {
                found.dissent.push(*agent);
            }
        }
        for difference in differences {
            self.null.observe(difference);
        }
        factors
    }

    /// Factors of [`HorizontalMode::Seed`]. Unbounded, as there; kept within f64's range only by that of f32.
    fn seed_factors(&mut self, voices: &Voices<'_>, found: &mut Horizontal, counts: &mut Counts) -> Vec<f64> {
        if voices.len() >= 2 {
            let products = Products::new(&voices.gradients, &voices.inverse_norms, None);
            found.consensus = debiased_resultant(products.length_of_total(), voices.len());
        }
        if self.direction.is_empty() {
            let mut mean = vec![0.0; voices.gradients[0].len()];
            voices.weighted_mean(&vec![1.0; voices.len()], &mut mean);
            if let Some(norm) = norm(&mean) {
                self.direction = mean.iter().map(|value| (f64::from(*value) / norm) as f32).collect();
            }
        }
        let factor = |gradient: &&[f32]| {
            let product = dot(gradient, &self.direction);
            counts.opposing += u64::from(product < 0.0);
            // The seed's beta is -0.3 and enters as `1 + beta * alignment`.
            if product > 0.0 { 1.0 + self.config.alpha * product } else { 1.0 - self.config.beta * product }
        };
        voices.gradients.iter().map(factor).collect()
    }

    fn fresh(config: HorizontalConfig) -> Self {
        Self {
            config,
            direction: Vec::new(),
            pending: Vec::new(),
            pending_calls: 0,
            stances: BTreeMap::new(),
            calls: 0,
            null: NullCalibration::default(),
        }
    }

    pub(crate) fn save(&self, prefix: &str, state: &mut SavedState) {
        state.set_tensor(format!("{prefix}.direction"), self.direction.as_slice());
        state.set_tensor(
            format!("{prefix}.pending"),
            if self.pending_calls > 0 { self.pending.as_slice() } else { &[] },
        );
        state.set_number(format!("{prefix}.pending_calls"), self.pending_calls as f64);
        state.set_number(format!("{prefix}.calls"), self.calls as f64);
        self.null.save(prefix, state);
        for (agent, stance) in &self.stances {
            state.set_number(format!("{prefix}.agent.{agent}.seen"), stance.seen as f64);
            state.set_number(format!("{prefix}.agent.{agent}.opposed"), f64::from(stance.opposed));
            if let Some(cosine) = stance.cosine {
                state.set_number(format!("{prefix}.agent.{agent}.cosine"), cosine);
            }
        }
    }

    pub(crate) fn load(config: HorizontalConfig, prefix: &str, saved: &StateReader<'_>) -> Result<Self, CoreError> {
        let mut loaded = Self::fresh(config);
        loaded.direction = saved.tensor(&format!("{prefix}.direction"))?.to_vec();
        loaded.calls = saved.integer(&format!("{prefix}.calls"))?;
        loaded.pending_calls = saved.integer(&format!("{prefix}.pending_calls"))?;
        loaded.pending = saved.tensor(&format!("{prefix}.pending"))?.to_vec();
        let (known, pending) = (loaded.direction.len(), loaded.pending.len());
        if known != 0 && pending != 0 && known != pending {
            return Err(CoreError::state(&format!("{prefix}.pending"), format!("{known} values"), pending));
        }
        loaded.null = NullCalibration::load(prefix, saved)?;
        for agent in saved.agents(prefix, "seen")? {
            let name = |entry: &str| format!("{prefix}.agent.{agent}.{entry}");
            let seen = saved.integer(&name("seen"))?;
            if seen > loaded.calls {
                return Err(CoreError::state(&name("seen"), format!("at most {}", loaded.calls), seen));
            }
            let opposed = saved.integer(&name("opposed"))?.min(u64::from(loaded.config.dissent_windows)) as u32;
            loaded.stances.insert(agent, Stance { cosine: saved.optional(&name("cosine"))?, opposed, seen });
        }
        Ok(loaded)
    }
}

/// Combines gradients once, without memory, with the default settings: see [`HorizontalResonance`] for the rule.
///
/// # Errors
/// [`Error::Length`] if the gradients have different lengths.
pub fn aggregate(gradients: &[&[f32]]) -> Result<Vec<f32>, Error> {
    let length = gradients.first().map_or(0, |first| first.len());
    for (index, gradient) in gradients.iter().enumerate() {
        if gradient.len() != length {
            return Err(Error::Length { index, expected: length, found: gradient.len() });
        }
    }
    let gradients: Vec<(AgentId, &[f32])> =
        gradients.iter().enumerate().map(|(index, gradient)| (AgentId(index as u64), *gradient)).collect();
    let mut out = vec![0.0; length];
    HorizontalResonance::fresh(HorizontalConfig::default()).aggregate(&gradients, &mut out);
    Ok(out)
}
