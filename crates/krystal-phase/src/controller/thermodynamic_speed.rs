//! Cooling at a constant speed, as thermodynamics measures distance.

use serde::{Deserialize, Serialize};

use super::need;
use crate::error::{Result, setting};
use crate::measurement::Measurement;

/// `dT/dt = -v T / (tau sqrt(C))`: cools so that the system lags behind equilibrium by the same number of standard deviations of its
/// energy everywhere. Slow where the heat capacity `C` or the relaxation time `tau` is large, as near a critical point.
///
/// One tick is the unit of time, the objective is the energy. Both coefficients are measured online with exponentially fading
/// weights of the last `memory` ticks: `C = var(E) / T^2`, and `tau = (1 + r) / (1 - r)` ticks from the correlation `r` of neighbouring
/// ticks (of the energies' deviations from their fading mean; 0 if negative), which is the integrated autocorrelation time of a process that forgets exponentially; one with
/// several time-scales has a longer one. During the first `memory` ticks nothing is cooled. Energies that do not fluctuate at all are
/// cooled by `max_change` a tick.
///
/// Salamon and Nulton; Andresen and Gordon (1994), doi:10.1103/PhysRevE.50.4346.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThermodynamicSpeedConfig {
    /// `v`, above 0: standard deviations of the energy per relaxation time; default 0.1.
    pub speed: f64,
    /// Ticks that are remembered, at least 2; default 50. Should be several relaxation times.
    pub memory: f64,
    /// The largest factor that a tick divides the temperature by, above 1; default 1.1.
    pub max_change: f64,
}

impl Default for ThermodynamicSpeedConfig {
    fn default() -> Self {
        Self { speed: 0.1, memory: 50.0, max_change: 1.1 }
    }
}

impl ThermodynamicSpeedConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        let above_zero = self.speed > 0.0 && self.speed.is_finite();
        setting(above_zero, "thermodynamic_speed.speed", "above 0 and finite", self.speed)?;
        let long = self.memory >= 2.0 && self.memory.is_finite();
        setting(long, "thermodynamic_speed.memory", "at least 2 and finite", self.memory)?;
        let factor = self.max_change;
        setting(factor > 1.0 && factor.is_finite(), "thermodynamic_speed.max_change", "above 1 and finite", factor)
    }
}

/// The rule and what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThermodynamicSpeed {
    pub(crate) config: ThermodynamicSpeedConfig,
    n_ticks: u64,
    mean: f64,
    variance: f64,
    covariance: f64,
    last_deviation: f64,
}

impl ThermodynamicSpeed {
    pub(crate) fn new(config: ThermodynamicSpeedConfig) -> Self {
        Self { config, n_ticks: 0, mean: 0.0, variance: 0.0, covariance: 0.0, last_deviation: 0.0 }
    }

    pub(crate) fn next(&mut self, temperature: f64, seen: &Measurement<'_>) -> Result<f64> {
        let energy = need(seen.objective, "thermodynamic_speed", "an objective")?;
        self.n_ticks += 1;
        // An ordinary mean until there is a memory to fade.
        let weight = (1.0 / self.n_ticks as f64).max(1.0 / self.config.memory);
        let deviation = energy - self.mean;
        self.mean += weight * deviation;
        // Deviations from the mean before are larger than those from the mean after by 1 - weight.
        self.variance = (1.0 - weight) * (self.variance + weight * deviation * deviation);
        self.covariance = (1.0 - weight) * (self.covariance + weight * deviation * self.last_deviation);
        self.last_deviation = deviation;
        if self.n_ticks as f64 <= self.config.memory {
            return Ok(temperature);
        }
        let correlation = if self.variance > 0.0 { (self.covariance / self.variance).clamp(0.0, 0.999) } else { 0.0 };
        let tau = (1.0 + correlation) / (1.0 - correlation);
        // v / (tau sqrt(C)) with sqrt(C) = sqrt(var) / T
        let rate = self.config.speed * temperature / (tau * self.variance.sqrt());
        // Also where the rate is infinite, or NaN at zero temperature.
        Ok(temperature * (-rate.min(self.config.max_change.ln())).exp())
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.variance >= 0.0
            && [self.mean, self.variance, self.covariance, self.last_deviation].iter().all(|x| x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krystal_math::rng::{Purpose, SplitMix64};

    /// Energies with `var = C T^2` and correlation `r`: `ln T` must fall by `v / (tau sqrt(C))` a tick.
    #[test]
    fn cools_at_the_speed_it_should() {
        for (capacity, r) in [(4.0_f64, 0.0), (100.0, 0.0), (100.0, 0.8)] {
            let config = ThermodynamicSpeedConfig { speed: 1e-3, memory: 200.0, ..ThermodynamicSpeedConfig::default() };
            let mut rule = ThermodynamicSpeed::new(config);
            let mut draws = SplitMix64::stream(11, Purpose::SelfCheck, 0, 0);
            let (mut temperature, mut x) = (5.0, draws.normal());
            let mut at_start = f64::NAN;
            let n = 20_000;
            for tick in 0..n {
                x = r * x + (1.0_f64 - r * r).sqrt() * draws.normal();
                let energy = capacity.sqrt() * temperature * x;
                temperature = rule.next(temperature, &Measurement::objective(energy)).unwrap();
                if tick == 999 {
                    at_start = temperature;
                }
            }
            let rate = (at_start / temperature).ln() / f64::from(n - 1000);
            let expected = config.speed * (1.0 - r) / (1.0 + r) / capacity.sqrt();
            // The memory lags behind a falling temperature, which makes the fluctuations seem up to 1.1 times as large.
            assert!((0.85..1.1).contains(&(rate / expected)), "{capacity} {r}: {rate} {expected}");
        }
    }

    #[test]
    fn frozen_energies_cool_fastest_and_zero_stays_zero() {
        let config = ThermodynamicSpeedConfig { memory: 2.0, ..ThermodynamicSpeedConfig::default() };
        let mut rule = ThermodynamicSpeed::new(config);
        let mut next = |t| rule.next(t, &Measurement::objective(3.0)).unwrap();
        assert_eq!((next(1.0), next(1.0)), (1.0, 1.0));
        assert!((next(1.0) - 1.0 / 1.1).abs() < 1e-15);
        assert_eq!(next(0.0), 0.0);
    }
}
