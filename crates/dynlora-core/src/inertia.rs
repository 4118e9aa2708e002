//! Inertia that grows with use.

use crate::{DensityMode, LayerConfig};

/// Decay of the averages behind density, by update or tick: a memory of about a hundred.
const BETA: f64 = 0.99;
/// Most that one update's importance counts relative to the mean: a burst is not use.
const MAX_IMPORTANCE: f64 = 2.0;

/// A mean that forgets, without the bias of its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Average {
    pub(crate) value: f64,
    /// `1 - beta^n`.
    pub(crate) weight: f64,
}

impl Average {
    fn add(&mut self, x: f64) {
        self.weight = BETA * self.weight + (1.0 - BETA);
        self.value += (x - self.value) * (1.0 - BETA) / self.weight;
    }

    /// Adds `n` zeros.
    fn add_zeros(&mut self, n: u64) {
        if n == 0 || self.weight == 0.0 {
            return;
        }
        let left = BETA.powf(n as f64);
        let weight = left * self.weight + (1.0 - left);
        self.value *= left * self.weight / weight;
        self.weight = weight;
    }
}

/// What one update says of a layer's use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use<'a> {
    /// Agents' shares.
    pub(crate) shares: &'a [f64],
    /// Share of channels with a noticeable `|h|`.
    pub(crate) frequency: f64,
    /// `sum |theta g|`.
    pub(crate) path: f64,
    /// `|g|`.
    pub(crate) gradient_norm: f64,
    /// Whether to restore plasticity.
    pub(crate) release: bool,
}

/// Effective inertia of a layer (R8 to R11, R34).
///
/// ```text
/// alpha_eff = a0 + (1 - a0) tanh(rho / k)  <=  1 - rate_floor
/// rho = n_eff f m
/// ```
///
/// - `n_eff`: exponential of the entropy of the agents' shares: 1 for one agent, n for n equal ones.
/// - `f`: mean over ticks of the share of channels with a noticeable `|h|`; 0 for ticks without use.
/// - `m`: mean over updates of the path importance `sum |theta g|` relative to its own running mean, at most 2: 1 in steady
///   use whatever the scale of the loss, and it does not vanish as the layer converges.
/// - `k`: median of `rho` so far, until the warm-up ends; then it stays. Steady use as in the warm-up gives `tanh(1)`.
///
/// While a release is asked for `m` is not measured but halves every `release_half_life` updates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inertia {
    pub(crate) n_eff: Average,
    pub(crate) frequency: Average,
    pub(crate) importance: Average,
    pub(crate) mean_path: Average,
    /// The seed's: agents and gradient norm of the last update.
    pub(crate) seed_factor: f64,
    /// `f` of the updates of this tick; negative where there was none.
    pub(crate) tick_use: f64,
    /// Densities of the warm-up, sorted; empty after it.
    pub(crate) samples: Vec<f64>,
    /// `k` once it is fixed.
    pub(crate) scale: Option<f64>,
}

impl Inertia {
    pub(crate) fn new(config: &LayerConfig) -> Self {
        Self {
            n_eff: Average::default(),
            frequency: Average::default(),
            importance: Average::default(),
            mean_path: Average::default(),
            seed_factor: 0.0,
            tick_use: -1.0,
            samples: Vec::new(),
            scale: config.density_scale,
        }
    }

    /// Takes an update into account.
    pub(crate) fn observe(&mut self, seen: &Use<'_>, config: &LayerConfig) {
        self.n_eff.add(effective_count(seen.shares));
        self.tick_use = self.tick_use.max(seen.frequency);
        self.mean_path.add(seen.path);
        self.seed_factor = seen.shares.len().max(1) as f64 * seen.gradient_norm;
        if seen.release {
            self.importance.value *= 0.5_f64.powf(1.0 / config.release_half_life);
        } else if self.mean_path.value > 0.0 {
            self.importance.add((seen.path / self.mean_path.value).min(MAX_IMPORTANCE));
        }
    }

    /// Lets ticks pass; the first of them had the updates since the last call.
    pub(crate) fn advance(&mut self, n_ticks: u64, config: &LayerConfig) {
        let was_used = self.tick_use >= 0.0;
        match was_used {
            true => self.frequency.add(self.tick_use),
            false => self.frequency.add_zeros(1),
        }
        self.frequency.add_zeros(n_ticks.saturating_sub(1));
        self.tick_use = -1.0;
        let rho = self.density(config).unwrap_or(0.0);
        if was_used && rho > 0.0 && self.scale.is_none() && config.density == DensityMode::Normalised {
            let at = self.samples.partition_point(|sample| *sample < rho);
            self.samples.insert(at, rho);
            if self.samples.len() >= config.density_warmup as usize {
                self.scale = self.median();
                self.samples = Vec::new();
            }
        }
    }

    /// `rho`; `None` before the first tick with use.
    pub(crate) fn density(&self, config: &LayerConfig) -> Option<f64> {
        if self.frequency.weight == 0.0 {
            return None;
        }
        Some(match config.density {
            DensityMode::Normalised => self.n_eff.value * self.frequency.value * self.importance.value,
            DensityMode::Seed => self.seed_factor * self.frequency.value,
        })
    }

    /// `k` as it stands, before the factor; `None` before the first tick with use.
    pub(crate) fn scale(&self) -> Option<f64> {
        self.scale.or_else(|| self.median())
    }

    fn median(&self) -> Option<f64> {
        let n = self.samples.len();
        (n > 0).then(|| (self.samples[(n - 1) / 2] + self.samples[n / 2]) / 2.0)
    }

    /// `alpha_eff`.
    pub(crate) fn effective(&self, base: f64, config: &LayerConfig) -> f64 {
        if !config.mechanisms.inertia {
            return base.min(1.0 - config.rate_floor);
        }
        let rho = self.density(config).unwrap_or(0.0);
        match config.density {
            DensityMode::Seed => base + (1.0 - base) * (rho / config.density_scale.unwrap_or(1.0)).tanh(),
            DensityMode::Normalised => {
                let used = self.scale().map_or(0.0, |scale| (rho / (scale * config.density_factor)).tanh());
                (base + (1.0 - base) * used).min(1.0 - config.rate_floor)
            }
        }
    }
}

/// Exponential of the entropy of shares; they need not sum to 1. At least 1.
fn effective_count(shares: &[f64]) -> f64 {
    let total: f64 = shares.iter().filter(|share| **share > 0.0).sum();
    if !(total > 0.0 && total.is_finite()) {
        return 1.0;
    }
    let entropy: f64 =
        shares.iter().filter(|share| **share > 0.0).map(|share| share / total).map(|p| -p * p.ln()).sum();
    entropy.exp().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used<'a>(shares: &'a [f64], path: f64) -> Use<'a> {
        Use { shares, frequency: 1.0, path, gradient_norm: path, release: false }
    }

    fn run(inertia: &mut Inertia, n: usize, seen: &Use<'_>, config: &LayerConfig) {
        for _ in 0..n {
            inertia.observe(seen, config);
            inertia.advance(1, config);
        }
    }

    #[test]
    fn steady_use_has_no_unit_and_weighs_a_median() {
        let config = LayerConfig::default();
        for scale in [1e-6, 1.0, 1e6] {
            let mut inertia = Inertia::new(&config);
            assert_eq!(inertia.effective(0.5, &config), 0.5);
            run(&mut inertia, 200, &used(&[1.0], scale), &config);
            assert!((inertia.effective(0.5, &config) - (0.5 + 0.5 * 1_f64.tanh())).abs() < 1e-9);
        }
    }

    #[test]
    fn a_hundred_agents_weigh_more_than_five_and_none_freezes() {
        let config = LayerConfig::default();
        let alpha = |n: usize| {
            let mut inertia = Inertia::new(&config);
            run(&mut inertia, 100, &used(&[1.0], 1.0), &config);
            run(&mut inertia, 400, &used(&vec![1.0 / n as f64; n], 1.0), &config);
            inertia.effective(0.7, &config)
        };
        let (one, two, hundred) = (alpha(1), alpha(2), alpha(100));
        assert!(one < two && two < hundred, "{one} {two} {hundred}");
        assert_eq!(hundred, 1.0 - config.rate_floor);
    }

    #[test]
    fn a_released_layer_recovers_with_the_half_life() {
        let config = LayerConfig::default();
        let mut inertia = Inertia::new(&config);
        run(&mut inertia, 100, &used(&[1.0], 1.0), &config);
        run(&mut inertia, 400, &used(&[0.01; 100], 1.0), &config);
        let before = inertia.density(&config).unwrap();
        let mut release = used(&[0.01; 100], 100.0);
        release.release = true;
        run(&mut inertia, 16, &release, &config);
        let after = inertia.density(&config).unwrap();
        assert!((after / before - 0.5).abs() < 0.02, "{}", after / before);
        run(&mut inertia, 150, &release, &config);
        assert!(inertia.effective(0.7, &config) < 0.75);
    }

    #[test]
    fn an_idle_layer_grows_light_and_a_converged_one_stays_heavy() {
        let config = LayerConfig::default();
        let mut inertia = Inertia::new(&config);
        run(&mut inertia, 200, &used(&[1.0], 1.0), &config);
        let busy = inertia.effective(0.5, &config);
        let mut idle = inertia.clone();
        idle.advance(700, &config);
        assert!(idle.effective(0.5, &config) < 0.51);
        // Importance falls a thousandfold while the layer converges, and stays there.
        for t in 0..700 {
            run(&mut inertia, 1, &used(&[1.0], 1e-3_f64.powf(f64::from(t) / 700.0)), &config);
        }
        run(&mut inertia, 700, &used(&[1.0], 1e-3), &config);
        assert!((inertia.effective(0.5, &config) - busy).abs() < 0.03);
    }

    #[test]
    fn idle_ticks_at_once_are_idle_ticks_one_by_one() {
        let config = LayerConfig::default();
        let mut at_once = Inertia::new(&config);
        run(&mut at_once, 20, &used(&[1.0], 1.0), &config);
        let mut one_by_one = at_once.clone();
        at_once.advance(50, &config);
        (0..50).for_each(|_| one_by_one.advance(1, &config));
        assert!((at_once.frequency.value - one_by_one.frequency.value).abs() < 1e-12);
    }

    #[test]
    fn seed_density_is_the_seeds_product() {
        let mut config = LayerConfig { density: DensityMode::Seed, ..LayerConfig::default() };
        config.density_scale = Some(7.0);
        let mut inertia = Inertia::new(&config);
        run(&mut inertia, 3, &used(&[0.2, 0.8], 1.5), &config);
        // agent_count x activation_frequency x gradient_magnitude
        let density: f64 = 2.0 * 1.0 * 1.5;
        assert!((inertia.effective(0.3, &config) - (0.3 + 0.7 * (density / 7.0).tanh())).abs() < 1e-12);
    }
}
