//! How a layer of the hierarchy moves.

use serde::{Deserialize, Serialize};

use crate::{Error, Level};

/// What interaction density is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DensityMode {
    /// Effective agents, frequency of use and path importance, all without a unit.
    #[default]
    Normalised,
    /// The seed's product of agents, frequency and gradient norm, without a floor under the learning rate. For ablation: it
    /// depends on the scale of the loss, calls a converged layer light, and can freeze a layer for ever.
    Seed,
}

/// What is forgotten, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayMode {
    /// `B` decays to zero by the clock, slower in slower layers; `A` begins anew where nothing is left of `b`.
    #[default]
    BOnly,
    /// The seed's rule: within each update both factors go back to where they began, as fast in every layer. For ablation:
    /// busy layers forget faster than idle ones, and what two factors of one function lose depends on their scales.
    SeedBothFactors,
}

/// What has a phase of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// [`Param`](Self::Param) up to ten million parameters in the layer, [`Channel`](Self::Channel) above.
    #[default]
    Auto,
    /// Every parameter: one more float and a bit each while the layer learns.
    Param,
    /// A rank channel, row of `A` and column of `B` together: a few bytes a channel.
    Channel,
}

/// Which entropy homeostasis keeps in bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntropyMode {
    /// Mean dispersion rate weighted by movement, `sum d u / sum u`: falls with the screened share.
    #[default]
    Movement,
    /// The seed's `sum d v` with `v` the squared distance from the start, against `seed_entropy`. For ablation: it hardly
    /// depends on the screened share, so the threshold winds up.
    Seed,
}

/// What turns a gradient into a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam; decoupled decay is the layer's own.
    #[default]
    AdamW,
    /// The gradient itself; no moments.
    Sgd,
}

/// Mechanisms that can be switched off, each alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Mechanisms {
    /// Forgetting. Off: nothing decays.
    pub decay: bool,
    /// Phases. Off: everything stays FREE but for channels with credit.
    pub screening: bool,
    /// Inertia that grows with use. Off: the base inertia stays.
    pub inertia: bool,
    /// The adaptive threshold. Off: it stays where it began.
    pub homeostasis: bool,
}

impl Default for Mechanisms {
    fn default() -> Self {
        Self { decay: true, screening: true, inertia: true, homeostasis: true }
    }
}

/// How a [`DynamicLoraLayer`](crate::DynamicLoraLayer) moves.
///
/// Defaults are those of the specification's resolutions, whose numbers are given as R4 and so on; what has no number is a
/// choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LayerConfig {
    /// What interaction density is made of.
    pub density: DensityMode,
    /// What is forgotten.
    pub decay: DecayMode,
    /// What has a phase.
    pub granularity: Granularity,
    /// What homeostasis regulates.
    pub entropy: EntropyMode,
    /// Switches.
    pub mechanisms: Mechanisms,

    /// What turns a gradient into a step.
    pub optimizer: OptimizerKind,
    /// Adam's decay of the mean gradient, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Adam's decay of the mean squared gradient, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Adam's addend to the root of the second moment, in [1e-11, 1]. Default 1e-8.
    pub adam_eps: f64,
    /// Learning rate of `B` over that of `A`, > 0. Default 1; LoRA+ advises up to 16 (R5).
    pub lora_plus_ratio: f64,
    /// `p` of `(reference_rank / rank)^p`; `None` is 1/2, with which `|d(dW)|_F` of layers of ranks 64 to 4, and 16 to 1,
    /// is within 16 % of the proportion of their plasticities under both optimisers (R4). R4 derives 1 for SGD from
    /// `E[A^T A]`, which grows with the rank; but the norm of `A^T A x` grows with its root, and with 1 it is the part of `d(dW)` along
    /// the gradient that keeps the proportion, while the norm of the widest layer falls to .29 of it. Both measured by
    /// this crate's tests.
    pub rank_exponent: Option<f64>,
    /// The rank at which the learning rate is taken as given: the stack's Swarm rank. Default 16.
    pub reference_rank: usize,

    /// Base inertia in [0, 1); `None` is the level's ([`Level::base_inertia`]).
    pub base_inertia: Option<f64>,
    /// Least `1 - alpha_eff`, in (0, 1]: no use freezes a layer for good. Default 1e-3 (R9).
    pub rate_floor: f64,
    /// `k` of `tanh(rho / k)`, > 0; `None` is the running median of the layer's own density over its warm-up (R8). The
    /// seed's density takes 1 for `None`.
    pub density_scale: Option<f64>,
    /// Factor on that median, > 0. Default 1: a layer used as in its warm-up has `tanh(1)`. A larger one leaves it lighter.
    pub density_factor: f64,
    /// Updates of the warm-up, >= 1. Default 64.
    pub density_warmup: u32,
    /// Updates with release over which density halves, > 0. Default 16 (R9 asks for a half-life, the number is a choice).
    pub release_half_life: f64,

    /// Share of a FREE parameter of the Context layer lost in a tick, in [0, 1). Default 0.01 (seed).
    pub free_decay: f64,
    /// The same for SCREENED, in [0, `free_decay`]. Default 1e-4 (seed).
    pub screened_decay: f64,
    /// Largest relative change by decay that [`settle`](crate::LoraLayer::settle) leaves unwritten, in [0, 1). Default
    /// 1e-3: idle slow layers do not change their snapshot every tick. Nothing is lost by waiting.
    pub settle_tolerance: f64,
    /// A channel of an idle layer with all `|b|` below this begins anew from the seed's row of `A` and `b = 0`, >= 0.
    /// Default 1e-8.
    pub basis_epsilon: f64,

    /// Relative activity (mean 1) above which FREE becomes SCREENED, at the start. Default 1.
    pub initial_threshold: f64,
    /// Where the threshold may move. Default [1e-3, 1e4] (R20).
    pub threshold_range: [f64; 2],
    /// SCREENED becomes FREE below this share of the threshold, in (0, 1]. Default 0.75 (R14).
    pub hysteresis: f64,
    /// Ticks for which a phase stays at least, 0 to 64. Default 3 (R14). All of a layer's phases may change in the same
    /// ticks, so many apart: that needs no counter for each.
    pub dwell_ticks: u32,
    /// Factor on the learning rate of SCREENED, in [0, 1]. Default 0.25; 1 is the seed's (R15).
    pub screened_rate: f64,
    /// Decay of the mean activity by update, in [0, 1). Default 0.9.
    pub activity_beta: f64,
    /// Decay of the mean squared movement by update, in [0, 1). Default 0.9: it is a mean over a whole module already.
    pub movement_beta: f64,

    /// Screened share, weighted by movement, that homeostasis leaves alone: `[low, high]` in [0, 1]. Default [0.4, 0.7]
    /// (seed, R21).
    pub screening_band: [f64; 2],
    /// Ticks between two steps of the threshold, >= 1. Default 10 (R20).
    pub homeostasis_ticks: u64,
    /// The same while everything, or nothing, is SCREENED and a step can do no harm, >= 1. Default 1: a threshold that
    /// starts four decades off arrives in hundreds of ticks and not in a thousand.
    pub homeostasis_open_ticks: u64,
    /// Bounds of the seed's entropy; used by [`EntropyMode::Seed`] alone. Default [1e-5, 1e-4], for want of any in the seed.
    pub seed_entropy: [f64; 2],

    /// A private layer drops moments and the detail of its activity after so many ticks without a gradient; 0 is never.
    /// Default 64. Factors, phases and channels' activity stay.
    pub moments_idle_ticks: u64,
}

impl Default for LayerConfig {
    fn default() -> Self {
        Self {
            density: DensityMode::default(),
            decay: DecayMode::default(),
            granularity: Granularity::default(),
            entropy: EntropyMode::default(),
            mechanisms: Mechanisms::default(),
            optimizer: OptimizerKind::default(),
            beta1: 0.9,
            beta2: 0.999,
            adam_eps: 1e-8,
            lora_plus_ratio: 1.0,
            rank_exponent: None,
            reference_rank: Level::Swarm.nominal_rank(),
            base_inertia: None,
            rate_floor: 1e-3,
            density_scale: None,
            density_factor: 1.0,
            density_warmup: 64,
            release_half_life: 16.0,
            free_decay: 0.01,
            screened_decay: 1e-4,
            settle_tolerance: 1e-3,
            basis_epsilon: 1e-8,
            initial_threshold: 1.0,
            threshold_range: [1e-3, 1e4],
            hysteresis: 0.75,
            dwell_ticks: 3,
            screened_rate: 0.25,
            activity_beta: 0.9,
            movement_beta: 0.9,
            screening_band: [0.4, 0.7],
            homeostasis_ticks: 10,
            homeostasis_open_ticks: 1,
            seed_entropy: [1e-5, 1e-4],
            moments_idle_ticks: 64,
        }
    }
}

impl LayerConfig {
    /// Parameters above which [`Granularity::Auto`] is by channel (R13).
    pub const MAX_PARAM_GRANULARITY: usize = 10_000_000;

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Field`] names the first that cannot be.
    pub fn validate(&self) -> Result<(), Error> {
        let check = |field, ok: bool, expected: &str, found: &dyn std::fmt::Debug| match ok {
            true => Ok(()),
            false => Err(Error::field(field, expected, format!("{found:?}"))),
        };
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let share = "a number in [0, 1)";
        let above = "a finite number above 0";
        check("beta1", below_one(self.beta1), share, &self.beta1)?;
        check("beta2", below_one(self.beta2), share, &self.beta2)?;
        // The second moment never falls to zero; its least root has to be small beside this.
        let eps = (1e-11..=1.0).contains(&self.adam_eps);
        check("adam_eps", eps, "a number in [1e-11, 1]", &self.adam_eps)?;
        check("lora_plus_ratio", positive(self.lora_plus_ratio), above, &self.lora_plus_ratio)?;
        let exponent = self.rank_exponent.is_none_or(f64::is_finite);
        check("rank_exponent", exponent, "a finite number or null", &self.rank_exponent)?;
        check("reference_rank", self.reference_rank >= 1, "at least 1", &self.reference_rank)?;
        check(
            "base_inertia",
            self.base_inertia.is_none_or(below_one),
            "a number in [0, 1) or null",
            &self.base_inertia,
        )?;
        check("rate_floor", self.rate_floor > 0.0 && self.rate_floor <= 1.0, "a number in (0, 1]", &self.rate_floor)?;
        let scale = self.density_scale.is_none_or(positive);
        check("density_scale", scale, "a finite number above 0 or null", &self.density_scale)?;
        check("density_factor", positive(self.density_factor), above, &self.density_factor)?;
        let warmup = (1..=4096).contains(&self.density_warmup);
        check("density_warmup", warmup, "a number of updates from 1 to 4096", &self.density_warmup)?;
        check("release_half_life", positive(self.release_half_life), above, &self.release_half_life)?;
        check("free_decay", below_one(self.free_decay), share, &self.free_decay)?;
        let screened = (0.0..=self.free_decay).contains(&self.screened_decay);
        check("screened_decay", screened, "a number from 0 to `free_decay`", &self.screened_decay)?;
        check("settle_tolerance", below_one(self.settle_tolerance), share, &self.settle_tolerance)?;
        let basis = self.basis_epsilon >= 0.0 && self.basis_epsilon.is_finite();
        check("basis_epsilon", basis, "a finite number of at least 0", &self.basis_epsilon)?;
        let [low, high] = self.threshold_range;
        let range = positive(low) && high.is_finite() && low <= high && high <= 1e30;
        check("threshold_range", range, "[low, high] with 0 < low <= high <= 1e30", &self.threshold_range)?;
        let initial = (low..=high).contains(&self.initial_threshold);
        check("initial_threshold", initial, "a number within `threshold_range`", &self.initial_threshold)?;
        let hysteresis = self.hysteresis > 0.0 && self.hysteresis <= 1.0;
        check("hysteresis", hysteresis, "a number in (0, 1]", &self.hysteresis)?;
        check("dwell_ticks", self.dwell_ticks <= 64, "a number of ticks from 0 to 64", &self.dwell_ticks)?;
        let slowed = (0.0..=1.0).contains(&self.screened_rate);
        check("screened_rate", slowed, "a number in [0, 1]", &self.screened_rate)?;
        check("activity_beta", below_one(self.activity_beta), share, &self.activity_beta)?;
        check("movement_beta", below_one(self.movement_beta), share, &self.movement_beta)?;
        let [low, high] = self.screening_band;
        let band = (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high) && low <= high;
        check("screening_band", band, "[low, high] with 0 <= low <= high <= 1", &self.screening_band)?;
        check("homeostasis_ticks", self.homeostasis_ticks >= 1, "at least 1", &self.homeostasis_ticks)?;
        check("homeostasis_open_ticks", self.homeostasis_open_ticks >= 1, "at least 1", &self.homeostasis_open_ticks)?;
        let [low, high] = self.seed_entropy;
        let entropy = low >= 0.0 && low <= high && high.is_finite();
        check("seed_entropy", entropy, "[low, high] with 0 <= low <= high", &self.seed_entropy)
    }

    /// `p` of the rank's influence on the learning rate.
    pub fn effective_rank_exponent(&self) -> f64 {
        self.rank_exponent.unwrap_or(0.5)
    }
}

/// The rank a module gets: the nominal one, but at most a quarter of its narrow side and at least 1; and whether it was cut.
///
/// Five layers of nominal ranks would be of full rank on a small module (R2).
///
/// ```
/// assert_eq!(dynlora_core::effective_rank(64, 1024, 4096), (64, false));
/// assert_eq!(dynlora_core::effective_rank(64, 128, 512), (32, true));
/// assert_eq!(dynlora_core::effective_rank(4, 3, 512), (1, true));
/// ```
pub fn effective_rank(nominal: usize, d_in: usize, d_out: usize) -> (usize, bool) {
    let rank = nominal.min(d_in.min(d_out) / 4).max(1);
    (rank, rank < nominal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_json() {
        let config = LayerConfig::default();
        config.validate().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<LayerConfig>(&text).unwrap(), config);
        assert_eq!(serde_json::from_str::<LayerConfig>("{}").unwrap(), config);
        assert!(serde_json::from_str::<LayerConfig>(r#"{"free_dekay": 0.1}"#).is_err());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let check = |field: &str, json: &str| {
            let config: LayerConfig = serde_json::from_str(json).unwrap();
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}`")), "{message}");
        };
        check("beta1", r#"{"beta1": 1.0}"#);
        check("screened_decay", r#"{"screened_decay": 0.5}"#);
        check("base_inertia", r#"{"base_inertia": 1.0}"#);
        check("threshold_range", r#"{"threshold_range": [2.0, 1.0]}"#);
        check("initial_threshold", r#"{"initial_threshold": 0.0}"#);
        check("rate_floor", r#"{"rate_floor": 0.0}"#);
        check("screening_band", r#"{"screening_band": [0.4, 1.1]}"#);
        let config = LayerConfig { free_decay: f64::NAN, ..LayerConfig::default() };
        assert!(config.validate().is_err());
    }
}
