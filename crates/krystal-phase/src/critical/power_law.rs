//! Is it a power law?

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use super::check;
use super::jackknife::Estimate;
use super::rivals::{Comparison, Tail};
use super::special::ln_zeta;
use crate::error::{Error, Result, measured, setting};

/// What the sizes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sizes {
    /// Real numbers above 0.
    #[default]
    Continuous,
    /// Whole numbers from 1 on.
    Discrete,
}

/// Settings of [`PowerLaw::fit`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PowerLawConfig {
    /// What the sizes are.
    pub sizes: Sizes,
    /// Where the power law begins; `None` finds it.
    pub xmin: Option<f64>,
    /// Samples that must lie above `xmin`, at least 2; default 100. Fewer fit nearly anything.
    pub min_tail: usize,
    /// Values that are tried for `xmin`, evenly by rank, at least 1; default 100.
    pub max_candidates: usize,
    /// Synthetic data sets for the p-value, 0 for none; default 200, which know it to 0.02 near 0.1. Each is fitted as the data are: the
    /// whole takes about `n_bootstrap * max_candidates * n` evaluations of the distribution.
    pub n_bootstrap: usize,
    /// Of the synthetic data.
    pub seed: u64,
}

impl Default for PowerLawConfig {
    fn default() -> Self {
        let sizes = Sizes::default();
        Self { sizes, xmin: None, min_tail: 100, max_candidates: 100, n_bootstrap: 200, seed: 0 }
    }
}

/// Whether data support a power law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TailVerdict {
    /// It fits, and both rivals are rejected.
    Supported,
    /// Not supported by the data: there are too few above the threshold.
    TooFew,
    /// Not supported by the data: a power law would hardly give data that fit so badly (`p < 0.1`), or nobody has looked (no bootstrap).
    PoorFit,
    /// Not supported by the data: an exponential is not rejected.
    ExponentialNotRejected,
    /// Not supported by the data: a lognormal is not rejected.
    LognormalNotRejected,
}

/// A power law `p(x) ~ x^(-alpha)` for `x >= xmin`, fitted and tested as Clauset, Shalizi and Newman (2009) do, doi:10.1137/070710111.
///
/// `alpha` by maximum likelihood; `xmin` where Kolmogorov and Smirnov's distance `D` between the tail and its fit is smallest; the p-value is
/// the share of synthetic data sets (power law above `xmin`, resampled data below) whose own best fit is as far off or farther. Rivals
/// are fitted to the same tail, truncated at `xmin`.
///
/// A lognormal far enough to the left is a power law for all that can be seen of it, so against *any* lognormal no power law can win.
/// The verdict asks for less: that lognormals are rejected whose median lies within the data. Both comparisons are reported.
///
/// ```
/// use krystal_phase::critical::{PowerLaw, PowerLawConfig, TailVerdict};
///
/// let sizes: Vec<f64> = (0..3000).map(|i| (1.0 - (f64::from(i) + 0.5) / 3000.0_f64).powf(-1.0 / 1.5)).collect();
/// let fit = PowerLaw::fit(&sizes, PowerLawConfig { n_bootstrap: 50, ..PowerLawConfig::default() })?;
/// assert!((fit.alpha.value - 2.5).abs() < 0.05);
/// assert_eq!(fit.verdict, TailVerdict::Supported);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// The exponent.
    pub alpha: Estimate,
    /// Where it begins.
    pub xmin: f64,
    /// Samples from there on.
    pub n_tail: usize,
    /// `D`.
    pub distance: f64,
    /// The share of synthetic data that fit no better; `None` without bootstrap.
    pub p_value: Option<f64>,
    /// Against the best lognormal of all.
    pub lognormal: Comparison,
    /// Against the best lognormal whose median lies within the data.
    pub lognormal_within: Comparison,
    /// Against the best exponential.
    pub exponential: Comparison,
    /// What follows.
    pub verdict: TailVerdict,
}

impl PowerLaw {
    /// Fits and tests sizes of avalanches, or whatever may have a heavy tail.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; [`Error::Measured`] for sizes that are not above 0 (continuous) or not whole and at least 1 (discrete);
    /// [`Error::TooFew`] for fewer than two different sizes from `xmin` on; [`Error::Setting`].
    pub fn fit(sizes: &[f64], config: PowerLawConfig) -> Result<Self> {
        setting(config.min_tail >= 2, "min_tail", "at least 2", config.min_tail as f64)?;
        setting(config.max_candidates >= 1, "max_candidates", "at least 1", config.max_candidates as f64)?;
        check(sizes, "sizes", 2)?;
        let discrete = config.sizes == Sizes::Discrete;
        let (floor, expected) = if discrete { (1.0, "whole and at least 1") } else { (f64::MIN_POSITIVE, "above 0") };
        for &size in sizes {
            measured(size >= floor && (!discrete || size.fract() == 0.0), "size", expected, size)?;
        }
        if let Some(xmin) = config.xmin {
            setting(xmin >= floor && xmin.is_finite() && (!discrete || xmin.fract() == 0.0), "xmin", expected, xmin)?;
        }
        let counts = Counts::of(sizes);
        let best = counts.best(&config)?;
        let tail = counts.tail(&best, discrete);
        let p_value = (config.n_bootstrap > 0).then(|| bootstrap(&counts, &best, &config));

        let norm = if discrete { -ln_zeta(best.alpha, best.xmin) } else { (best.alpha - 1.0).ln() - best.xmin.ln() };
        // Continuous densities in units of xmin, which is where the exponent of the norm went.
        let unit = if discrete { 0.0 } else { best.xmin.ln() };
        let power = |x: f64| norm - best.alpha * (x.ln() - unit);
        let smallest = counts.values.first().map_or(0.0, |(x, _)| x.ln());
        let lognormal = tail.compare(power, tail.lognormal(f64::NEG_INFINITY));
        let lognormal_within = tail.compare(power, tail.lognormal(smallest));
        let exponential = tail.compare(power, tail.exponential());
        let n_tail = tail.n as usize;
        let verdict = if n_tail < config.min_tail {
            TailVerdict::TooFew
        } else if p_value.is_none_or(|p| p < 0.1) {
            TailVerdict::PoorFit
        } else if !exponential.rejects_rival() {
            TailVerdict::ExponentialNotRejected
        } else if !lognormal_within.rejects_rival() {
            TailVerdict::LognormalNotRejected
        } else {
            TailVerdict::Supported
        };
        let alpha = Estimate { value: best.alpha, error: best.alpha_error(&tail) };
        let Best { xmin, distance, .. } = best;
        Ok(Self { alpha, xmin, n_tail, distance, p_value, lognormal, lognormal_within, exponential, verdict })
    }
}

/// Different values, ascending, with how often each occurs.
struct Counts {
    values: Vec<(f64, f64)>,
    /// From each value on: how many, and the sum of their logarithms.
    above: Vec<(f64, f64)>,
}

struct Best {
    from: usize,
    xmin: f64,
    alpha: f64,
    distance: f64,
}

impl Counts {
    fn of(sizes: &[f64]) -> Self {
        let mut sorted = sizes.to_vec();
        sorted.sort_by(f64::total_cmp);
        let values: Vec<(f64, f64)> =
            sorted.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as f64)).collect();
        let mut above = vec![(0.0, 0.0); values.len()];
        let mut total = (0.0, 0.0);
        for (above, &(x, count)) in above.iter_mut().zip(&values).rev() {
            total = (total.0 + count, total.1 + count * x.ln());
            *above = total;
        }
        Self { values, above }
    }

    fn tail(&self, best: &Best, discrete: bool) -> Tail<'_> {
        Tail { values: &self.values[best.from..], n: self.above[best.from].0, xmin: best.xmin, discrete }
    }

    fn best(&self, config: &PowerLawConfig) -> Result<Best> {
        // Two different values at least, so that an exponent exists.
        let last = self.values.len().saturating_sub(1);
        let candidates: Vec<(usize, f64)> = match config.xmin {
            Some(xmin) => vec![(self.values.partition_point(|(x, _)| *x < xmin), xmin)],
            None => {
                let enough = self.above.partition_point(|(n, _)| *n >= config.min_tail as f64).clamp(1, last.max(1));
                let n = enough.min(config.max_candidates);
                (0..n).map(|i| i * enough / n).map(|i| (i, self.values.get(i).map_or(1.0, |(x, _)| *x))).collect()
            }
        };
        let discrete = config.sizes == Sizes::Discrete;
        candidates
            .into_iter()
            .filter(|(from, _)| *from < last)
            .map(|(from, xmin)| self.fit_from(from, xmin, discrete))
            .min_by(|a, b| a.distance.total_cmp(&b.distance))
            .ok_or(Error::TooFew { what: "different sizes from xmin on", needed: 2, found: usize::from(last == 0) })
    }

    fn fit_from(&self, from: usize, xmin: f64, discrete: bool) -> Best {
        let (n, sum_ln) = self.above[from];
        let mean_ln = sum_ln / n;
        let alpha = if discrete { discrete_alpha(mean_ln, xmin) } else { 1.0 + (mean_ln - xmin.ln()).recip() };
        let mut below = 0.0;
        let mut distance: f64 = 0.0;
        let all = if discrete { ln_zeta(alpha, xmin) } else { 0.0 };
        for &(x, count) in &self.values[from..] {
            let seen_before = below / n;
            below += count;
            let seen = below / n;
            if discrete {
                let expected = -(ln_zeta(alpha, x + 1.0) - all).exp_m1();
                let before = -(ln_zeta(alpha, x) - all).exp_m1();
                distance = distance.max((seen - expected).abs()).max((seen_before - before).abs());
            } else {
                let expected = -((1.0 - alpha) * (x / xmin).ln()).exp_m1();
                distance = distance.max((seen - expected).abs()).max((seen_before - expected).abs());
            }
        }
        Best { from, xmin, alpha, distance }
    }
}

impl Best {
    /// From the curvature of the likelihood.
    fn alpha_error(&self, tail: &Tail<'_>) -> f64 {
        let information = if tail.discrete {
            let h = 1e-3 * (self.alpha - 1.0);
            let ln_zeta = |alpha: f64| ln_zeta(alpha, self.xmin);
            (ln_zeta(self.alpha + h) - 2.0 * ln_zeta(self.alpha) + ln_zeta(self.alpha - h)) / (h * h)
        } else {
            (self.alpha - 1.0).powi(-2)
        };
        (tail.n * information).sqrt().recip()
    }

    /// One size at or above `xmin`.
    fn draw(&self, rng: &mut SplitMix64, discrete: bool) -> f64 {
        let rest = 1.0 - rng.uniform();
        if !discrete {
            return self.xmin * rest.powf(-1.0 / (self.alpha - 1.0));
        }
        // The largest whole x with P(X >= x) >= rest, by doubling and halving.
        let least = rest.ln() + ln_zeta(self.alpha, self.xmin);
        let reaches = |x: f64| ln_zeta(self.alpha, x) >= least;
        let (mut low, mut high) = (self.xmin, 2.0 * self.xmin);
        while reaches(high) && high < 1e15 {
            (low, high) = (high, 2.0 * high);
        }
        while high - low > 1.0 {
            let middle = (0.5 * (low + high)).floor();
            *(if reaches(middle) { &mut low } else { &mut high }) = middle;
        }
        low
    }
}

/// Minimises `alpha <ln x> + ln zeta(alpha, xmin)`, which is convex, by golden sections in `ln(alpha - 1)`.
fn discrete_alpha(mean_ln: f64, xmin: f64) -> f64 {
    let alpha = |x: f64| 1.0 + x.exp();
    let loss = |x: f64| alpha(x) * mean_ln + ln_zeta(alpha(x), xmin);
    // From what whole numbers are the rounding of, a factor e^3 to either side.
    let centre = -(mean_ln - (xmin - 0.5).ln()).max(1e-3).ln();
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    let (mut a, mut b) = (centre - 3.0, centre + 3.0);
    let (mut c, mut d) = (b - golden * (b - a), a + golden * (b - a));
    let (mut at_c, mut at_d) = (loss(c), loss(d));
    for _ in 0..45 {
        if at_c < at_d {
            (b, d, at_d) = (d, c, at_c);
            c = b - golden * (b - a);
            at_c = loss(c);
        } else {
            (a, c, at_c) = (c, d, at_d);
            d = a + golden * (b - a);
            at_d = loss(d);
        }
    }
    alpha(0.5 * (a + b))
}

/// The share of synthetic data sets whose distance is at least that of the data.
fn bootstrap(counts: &Counts, best: &Best, config: &PowerLawConfig) -> f64 {
    let discrete = config.sizes == Sizes::Discrete;
    let (n, n_tail) = (counts.above[0].0 as usize, counts.above[best.from].0);
    let body: Vec<f64> =
        counts.values[..best.from].iter().flat_map(|&(x, count)| std::iter::repeat_n(x, count as usize)).collect();
    let mut farther = 0;
    for replicate in 0..config.n_bootstrap {
        let mut rng = SplitMix64::stream(config.seed, Purpose::Resampling, 0, replicate as u64);
        let synthetic: Vec<f64> = (0..n)
            .map(|_| {
                if body.is_empty() || rng.uniform() * (n as f64) < n_tail {
                    best.draw(&mut rng, discrete)
                } else {
                    body[rng.below(body.len() as u64) as usize]
                }
            })
            .collect();
        // Data without an exponent of their own fit as badly as can be.
        let distance = Counts::of(&synthetic).best(config).map_or(f64::INFINITY, |best| best.distance);
        farther += usize::from(distance >= best.distance);
    }
    farther as f64 / config.n_bootstrap as f64
}
