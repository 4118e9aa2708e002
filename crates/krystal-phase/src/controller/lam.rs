//! The acceptance that Lam and Delosme found best.

use serde::{Deserialize, Serialize};

use super::need;
use crate::error::{Result, setting};
use crate::measurement::Measurement;

/// Follows the acceptance of Lam and Delosme's schedule through a run of known length: near 1 at the start, 0.44 from 15 % to 65 % of
/// the run, towards 0.001 at its end ([`target_acceptance`]).
///
/// A tick takes the share of moves accepted since the last one into a moving average over 1 % of the run, and divides or multiplies the
/// temperature by a factor as the average is below or above the target. The factor is tuned to the run (Cicirello 2021): if a share `p`
/// of moves does not worsen and the others worsen by `D`, acceptance is about `p + (1 - p) exp(-D/T)`, so following the
/// target from `M` to `2M` ticks (`M` 0.1 % of a long run, 1 % of one below 10,000 ticks) takes a factor of
/// `T(2M) / T(M)` in `M` steps, whatever `D` is. The initial temperature is the caller's to find
/// ([`initial_temperature`](crate::anneal::initial_temperature)).
///
/// Lam and Delosme (1988), DAC; Swartz (1993); Boyan (1998); Cicirello (2021), doi:10.3390/app11219828, whose run-time sampling is
/// the caller's here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LamConfig {
    /// Ticks of the whole run, at least 1; default 10,000. Afterwards the last target stays.
    pub n_ticks: u64,
    /// The share `p` of proposed moves that do not worsen, as seen at the start, at least 0 and below 1; default 0.5.
    pub downhill: f64,
}

impl Default for LamConfig {
    fn default() -> Self {
        Self { n_ticks: 10_000, downhill: 0.5 }
    }
}

impl LamConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        setting(self.n_ticks >= 1, "lam.n_ticks", "at least 1", self.n_ticks as f64)?;
        setting((0.0..1.0).contains(&self.downhill), "lam.downhill", "at least 0 and below 1", self.downhill)
    }
}

/// `0.44 + 0.56 * 560^(-f/0.15)` up to `f = 0.15` of the run, 0.44 up to 0.65, then `0.44 * 440^(-(f - 0.65)/0.35)`.
///
/// ```
/// use krystal_phase::controller::lam::target_acceptance;
///
/// assert_eq!(target_acceptance(0.0), 1.0);
/// assert_eq!(target_acceptance(0.4), 0.44);
/// assert!((target_acceptance(1.0) - 0.001).abs() < 1e-15);
/// ```
pub fn target_acceptance(progress: f64) -> f64 {
    if progress < 0.15 {
        0.44 + 0.56 * 560_f64.powf(-progress / 0.15)
    } else if progress <= 0.65 {
        0.44
    } else {
        0.44 * 440_f64.powf(-(progress.min(1.0) - 0.65) / 0.35)
    }
}

/// The rule and what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lam {
    pub(crate) config: LamConfig,
    n_ticks: u64,
    acceptance: f64,
}

impl Lam {
    pub(crate) fn new(config: LamConfig) -> Self {
        let early = config.early();
        Self { config, n_ticks: 0, acceptance: target_acceptance(early / config.n_ticks as f64) }
    }

    pub(crate) fn next(&mut self, temperature: f64, seen: &Measurement<'_>) -> Result<f64> {
        let accepted = need(seen.acceptance, "lam", "an acceptance")?;
        let n = self.config.n_ticks as f64;
        let weight = 2.0 / (1.0 + (0.01 * n).max(9.0));
        self.acceptance += weight * (accepted - self.acceptance);
        self.n_ticks += 1;
        let factor = self.config.factor();
        let too_hot = self.acceptance > target_acceptance(self.n_ticks as f64 / n);
        Ok(if too_hot { temperature * factor } else { temperature / factor })
    }

    pub(crate) fn is_sound(&self) -> bool {
        (0.0..=1.0).contains(&self.acceptance)
    }
}

impl LamConfig {
    /// `M` of the type's documentation.
    fn early(&self) -> f64 {
        let n = self.n_ticks as f64;
        (if n >= 1e4 { 1e-3 * n } else { 0.01 * n }).max(1.0)
    }

    /// What a tick multiplies the temperature by to cool, below 1.
    fn factor(&self) -> f64 {
        let (n, early) = (self.n_ticks as f64, self.early());
        let later = target_acceptance(2.0 * early / n);
        // At a temperature of infinity all is accepted: p may not reach what the target falls to.
        let p = self.downhill.min(later - 1e-3);
        let exponent = |rate: f64| ((rate - p) / (1.0 - p)).ln();
        (exponent(target_acceptance(early / n)) / exponent(later)).powf(1.0 / early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Cicirello's own implementation (Chips-n-Salsa) lists for 0.1 %, 0.2 %, 1 % and 2 % of a run.
    #[test]
    fn published_targets() {
        for (progress, rate) in [
            (0.001, 0.976_867_078_878_956_4),
            (0.002, 0.954_689_750_685_756_6),
            (0.01, 0.807_261_574_590_061_1),
            (0.02, 0.680_859_043_161_376_7),
        ] {
            assert!((target_acceptance(progress) - rate).abs() < 1e-14);
        }
    }

    /// The same source: with nearly all early moves accepted anyway, the factor is 0.83 (long runs) or 0.913 (short ones) to the 1/M.
    /// It then takes `p = rate - 0.001` for each of the two rates, ours for both: the same within some per cent.
    #[test]
    fn the_factor_depends_on_the_length_of_the_run_alone() {
        let long = |n_ticks| LamConfig { n_ticks, downhill: 0.5 }.factor().powf(1e-3 * n_ticks as f64);
        assert!((long(100_000) - long(10_000_000)).abs() < 1e-12);
        // Rates .97687 and .95469 at p = .5: ln(.95374)/ln(.90938).
        assert!((long(100_000) - 0.047_366 / 0.094_992).abs() < 1e-4, "{}", long(100_000));
    }

    /// A system whose acceptance is `exp(-1/T)`: it must be on the target all along.
    #[test]
    fn acceptance_follows_the_target() {
        let config = LamConfig { n_ticks: 50_000, downhill: 0.0 };
        for scale in [1.0, 1e6_f64] {
            let mut lam = Lam::new(config);
            let mut temperature = scale * 30.0;
            let mut worst: f64 = 0.0;
            for tick in 1..=config.n_ticks {
                let acceptance = (-scale / temperature).exp();
                let seen = Measurement { acceptance: Some(acceptance), ..Measurement::default() };
                temperature = lam.next(temperature, &seen).unwrap();
                let progress = tick as f64 / config.n_ticks as f64;
                if progress > 0.1 {
                    worst = worst.max((acceptance - target_acceptance(progress)).abs());
                }
            }
            // The average is 0.5 % of the run old, while the target falls by up to 7.7 a run (at 65 %), and turns with a swing.
            assert!(worst < 0.1, "{worst}");
        }
    }
}
