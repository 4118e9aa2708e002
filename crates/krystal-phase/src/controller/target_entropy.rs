//! The temperature at which a softmax is as random as it should be.

use serde::{Deserialize, Serialize};

use super::need;
use crate::boltzmann::{gap, lowest};
use crate::error::{Result, setting};
use crate::measurement::{MeasuredEntropy, Measurement};

/// Keeps the entropy of a softmax over `K` choices at `H* = rho ln K`.
///
/// Given the preferences, [`solve`] finds the temperature exactly. Given only a measured entropy `H` (of many distributions, such as
/// the tokens of a language model), a tick is Newton's step in `ln T`, `T <- T exp(gain (H* - H) / C)` with the heat capacity
/// `C = T dH/dT`, at most a factor `max_change` a tick; if `C` is not measured it is taken for 1.
///
/// SAC's learned temperature (Haarnoja et al. 2018, arXiv:1812.05905) descends towards the same goal by gradient steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetEntropyConfig {
    /// The entropy aimed at, as a share of the largest, between 0 and 1; default 0.5.
    pub rho: f64,
    /// The share of Newton's step that is taken on a measured entropy, above 0 and at most 1; default 0.5. Lower averages more noise.
    pub gain: f64,
    /// The largest factor of one tick on a measured entropy, above 1; default 1.5.
    pub max_change: f64,
}

impl Default for TargetEntropyConfig {
    fn default() -> Self {
        Self { rho: 0.5, gain: 0.5, max_change: 1.5 }
    }
}

impl TargetEntropyConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        setting((0.0..=1.0).contains(&self.rho), "target_entropy.rho", "between 0 and 1", self.rho)?;
        setting(self.gain > 0.0 && self.gain <= 1.0, "target_entropy.gain", "above 0 and at most 1", self.gain)?;
        let factor = self.max_change;
        setting(factor > 1.0 && factor.is_finite(), "target_entropy.max_change", "above 1 and finite", factor)
    }

    pub(crate) fn next(&self, temperature: f64, seen: &Measurement<'_>) -> Result<f64> {
        if let Some(preferences) = seen.preferences {
            return Ok(solve(preferences, self.rho, Some(temperature))?.unwrap_or(temperature));
        }
        let needs = "preferences or a measured entropy";
        let MeasuredEntropy { entropy, maximum, heat_capacity } = need(seen.entropy, "target_entropy", needs)?;
        let missing = self.rho * maximum - entropy;
        let limit = self.max_change.ln();
        // A softmax that is frozen solid has C = 0, and an infinite step is cut to the limit.
        let step = if missing == 0.0 { 0.0 } else { self.gain * missing / heat_capacity.unwrap_or(1.0) };
        Ok(temperature.max(SMALLEST) * step.clamp(-limit, limit).exp())
    }
}

/// Multiplication leads nowhere from zero; a choice.
const SMALLEST: f64 = 1e-9;

/// The temperature at which the softmax of `preferences` has entropy `rho ln K`, for `K` choices above `-inf`.
///
/// `H` grows with `T`, `dH / d ln T = C >= 0`: Newton's method in `ln T`, kept within a bracket that shrinks, so it always ends. The
/// entropy at the root differs from the target by rounding. `near` is where to begin; the result does not depend on it beyond
/// rounding.
///
/// `None` if every temperature gives the same entropy (all preferences equal, a single choice, or one of `inf`). 0 if even there the
/// choices tied for the largest have at least that entropy; `inf` for `rho = 1`.
///
/// ```
/// use krystal_phase::boltzmann::{entropy, softmax};
/// use krystal_phase::controller::target_entropy::solve;
///
/// let q = [0.3, -1.0, 2.5, 0.0];
/// let temperature = solve(&q, 0.5, None)?.unwrap();
/// assert!((entropy(&softmax(&q, temperature)?) - 0.5 * 4.0_f64.ln()).abs() < 1e-14);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) for `rho` outside `[0, 1]`, and what [`softmax`](crate::boltzmann::softmax) refuses.
pub fn solve(preferences: &[f64], rho: f64, near: Option<f64>) -> Result<Option<f64>> {
    setting((0.0..=1.0).contains(&rho), "rho", "between 0 and 1", rho)?;
    let energies = preferences.iter().map(|q| -q);
    let lowest = lowest(energies.clone(), "preference", 1.0)?;
    let possible = energies.filter(|energy| *energy < f64::INFINITY);
    let n_choices = possible.clone().count();
    let n_tied = possible.clone().filter(|energy| *energy == lowest).count();
    if n_choices == n_tied || lowest == f64::NEG_INFINITY {
        return Ok(None);
    }
    let target = rho * (n_choices as f64).ln();
    if target <= (n_tied as f64).ln() {
        return Ok(Some(0.0));
    }
    if rho == 1.0 {
        return Ok(Some(f64::INFINITY));
    }
    let spread = possible.clone().fold(0.0_f64, |spread, energy| spread.max(energy / 2.0 - lowest / 2.0));
    // In units of the spread, whose logarithm is near zero and so has the most digits.
    let at = |log_t: f64| {
        let temperature = spread * log_t.exp();
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        for energy in possible.clone() {
            let gap = gap(energy, lowest, temperature);
            let weight = (-gap).exp();
            if weight > 0.0 {
                total += weight;
                first += weight * gap;
                second += weight * gap * gap;
            }
        }
        let mean: f64 = first / total;
        (f64::ln(total) + mean - target, second / total - mean * mean)
    };
    let start = near.filter(|t| *t > 0.0).map_or(0.0, |near| (near / spread).ln().clamp(-40.0, 40.0));
    Ok(Some(spread * root(start, at).exp()))
}

/// The root of an increasing function from its value and slope.
fn root(start: f64, at: impl Fn(f64) -> (f64, f64)) -> f64 {
    let (mut below, mut above) = (f64::NEG_INFINITY, f64::INFINITY);
    let mut x = start;
    let mut stride = 1.0;
    loop {
        let (value, slope) = at(x);
        if value == 0.0 {
            return x;
        }
        *(if value < 0.0 { &mut below } else { &mut above }) = x;
        let newton = x - value / slope;
        let next = if newton > below && newton < above && (newton - x).abs() <= 4.0 {
            newton
        } else if below == f64::NEG_INFINITY {
            stride *= 2.0;
            above - stride
        } else if above == f64::INFINITY {
            stride *= 2.0;
            below + stride
        } else {
            0.5 * (below + above)
        };
        // Where exp is neither zero nor infinite.
        let next = next.clamp(-744.0, 709.0);
        let resolution = 4.0 * f64::EPSILON * x.abs().max(1.0);
        if (next - x).abs() <= resolution || above - below <= resolution {
            return next;
        }
        x = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boltzmann::{entropy, softmax, thermodynamics};

    #[test]
    fn the_root_has_the_target_entropy() {
        let cases: [&[f64]; 6] = [
            &[1.0, 2.0, 3.0],
            &[0.0, 1e-9],
            &[0.0, 1e9, 1e9, -3.0],
            &[5.0, 5.0, 5.0, 4.0, f64::NEG_INFINITY],
            &[-1e300, 1e300],
            &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 700.0],
        ];
        for q in cases {
            let n = q.iter().filter(|q| **q > f64::NEG_INFINITY).count() as f64;
            let top = q.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let tied = q.iter().filter(|q| **q == top).count() as f64;
            for rho in [0.01, 0.2, 0.5, 0.9, 0.999_999] {
                for near in [None, Some(1e-30), Some(1e30)] {
                    let t = solve(q, rho, near).unwrap().unwrap();
                    let h = entropy(&softmax(q, t).unwrap());
                    if rho * n.ln() <= tied.ln() {
                        assert_eq!(t, 0.0);
                    } else {
                        assert!((h - rho * n.ln()).abs() < 2e-13, "{q:?} {rho} {near:?}: {t} {h}");
                    }
                }
            }
        }
    }

    #[test]
    fn where_there_is_no_root() {
        assert_eq!(solve(&[2.0, 2.0], 0.3, None).unwrap(), None);
        assert_eq!(solve(&[2.0], 0.3, None).unwrap(), None);
        assert_eq!(solve(&[2.0, f64::INFINITY], 0.3, None).unwrap(), None);
        assert_eq!(solve(&[2.0, 1.0], 1.0, None).unwrap(), Some(f64::INFINITY));
        assert_eq!(solve(&[2.0, 1.0], 0.0, None).unwrap(), Some(0.0));
        assert!(solve(&[f64::NAN, 1.0], 0.5, None).is_err());
        assert!(solve(&[0.0, 1.0], f64::NAN, None).is_err());
    }

    /// The same goal is reached from measured entropies, with and without a measured heat capacity.
    #[test]
    fn measured_entropies_lead_to_the_same_temperature() {
        let q = [1.0, -2.0, 0.5, 3.0, 0.0];
        let config = TargetEntropyConfig::default();
        let exact = solve(&q, config.rho, None).unwrap().unwrap();
        for know_capacity in [true, false] {
            let mut t = 20.0;
            for _ in 0..80 {
                let system = thermodynamics(&q.map(|q| -q), t).unwrap();
                let heat_capacity = know_capacity.then_some(system.heat_capacity);
                let entropy = Some(MeasuredEntropy { entropy: system.entropy, maximum: 5.0_f64.ln(), heat_capacity });
                t = config.next(t, &Measurement { entropy, ..Measurement::default() }).unwrap();
            }
            assert!((t / exact - 1.0).abs() < 1e-9, "{t} {exact}");
        }
    }
}
