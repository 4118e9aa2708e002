//! Critical, or not?

use super::autocorrelation::{IntegratedTime, integrated_time};
use super::fluctuations::{binder, mean_absolute};
use super::jackknife::{Estimate, jackknife};
use super::scaling::{ScalingFit, scaling_exponent};
use crate::error::{Error, Result, setting};

/// The order parameter of one system, under the same conditions as those of other sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizedSeries<'a> {
    /// `L`; the system has `L^d` sites.
    pub side: usize,
    /// The order parameter per site, sample after sample, with its sign.
    pub order: &'a [f64],
}

/// What speaks against criticality.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// Fewer than three sizes cannot show scaling.
    TooFewSizes,
    /// A series is shorter than 50 of its autocorrelation times.
    TooShort {
        /// Of this system.
        side: usize,
    },
    /// Fluctuations that do not grow with the size: the sites of the larger system do not hang together more.
    NoGrowth,
    /// Fluctuations of the largest system that are Gaussian about 0, or have heavier tails.
    NotAnOrderParameter,
    /// The largest system is ordered.
    Ordered,
    /// Binder's cumulant moves with the size: the correlation length is smaller than the systems, or they order.
    CumulantDrifts,
    /// `gamma/nu + 2 beta/nu` is not the dimension, or the order parameter does not fall with the size.
    NoHyperscaling,
}

/// The outcome of a diagnosis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that was looked for is there.
    Critical,
    /// Something is not.
    NotCritical,
    /// The data cannot tell.
    Undecided,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Diagnosis {
    /// The verdict.
    pub verdict: Verdict,
    /// What spoke against it; empty if critical.
    pub findings: Vec<Finding>,
    /// Binder's cumulant of each size, ascending.
    pub binder: Vec<Estimate>,
    /// Autocorrelation times, of the order parameter without its sign.
    pub times: Vec<IntegratedTime>,
    /// Of `N <m^2>` with the size: `gamma/nu` if critical.
    pub susceptibility: Option<ScalingFit>,
    /// Of `<|m|>` with the size: `-beta/nu` if critical.
    pub order: Option<ScalingFit>,
}

/// Blocks of each jackknife.
const N_BLOCKS: usize = 32;

/// Whether systems of several sizes are critical under the conditions under which they were observed.
///
/// Long memory alone is no sign of criticality, nor is a broad distribution. What is asked for is what only a critical point does:
/// fluctuations `N <m^2>` that grow as a power of the size above 0.25, an order parameter that falls as a power, the two powers bound
/// by hyperscaling `gamma/nu + 2 beta/nu = d`, and a Binder cumulant between Gaussian and ordered that is the same for all
/// sizes. Every comparison allows for three standard errors, and for corrections to scaling of 0.1 in the exponents' sum
/// and 0.02 in the cumulant across all sizes. Too few sizes, or series shorter than 50 autocorrelation times, are refused: `Undecided`.
///
/// A system near a critical point looks critical as long as its size is below the correlation length; larger sizes decide.
///
/// # Errors
/// [`Error::NotFinite`], [`Error::TooFew`] for a series of fewer than 320 samples, [`Error::Setting`] for a dimension of 0 or a size that
/// is not larger than the one before, [`Error::Measured`] for an order parameter that is 0 throughout.
pub fn diagnose(systems: &[SizedSeries<'_>], dimension: u32) -> Result<Diagnosis> {
    setting(dimension >= 1, "dimension", "at least 1", f64::from(dimension))?;
    let mut findings = Vec::new();
    let (mut sizes, mut cumulants, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let (mut fluctuations, mut orders) = (Vec::new(), Vec::new());
    for (i, &SizedSeries { side, order }) in systems.iter().enumerate() {
        setting(i == 0 || side > systems[i - 1].side, "side", "larger than the one before", side as f64)?;
        if order.len() < 10 * N_BLOCKS {
            return Err(Error::TooFew { what: "samples", needed: 10 * N_BLOCKS, found: order.len() });
        }
        cumulants.push(binder(order, N_BLOCKS)?);
        let absolute: Vec<f64> = order.iter().map(|m| m.abs()).collect();
        let time = integrated_time(&absolute, 5.0)?;
        if !time.is_reliable {
            findings.push(Finding::TooShort { side });
        }
        times.push(time);
        let n_sites = (side as f64).powi(dimension as i32);
        fluctuations.push(jackknife(order, N_BLOCKS, |m| [m * m], |[m2]| n_sites * m2)?);
        orders.push(mean_absolute(order, N_BLOCKS)?);
        sizes.push(side as f64);
    }
    if systems.len() < 3 {
        findings.push(Finding::TooFewSizes);
    }
    let undecided = !findings.is_empty();
    let (mut susceptibility, mut order) = (None, None);
    if let (true, [first, .., last]) = (systems.len() >= 3, &cumulants[..]) {
        let chi = scaling_exponent(&sizes, &fluctuations)?;
        let m = scaling_exponent(&sizes, &orders)?;
        let (x, y) = (chi.exponent, m.exponent);
        if x.value - 3.0 * x.error < 0.25 {
            findings.push(Finding::NoGrowth);
        }
        if last.value - 3.0 * last.error < 0.05 {
            findings.push(Finding::NotAnOrderParameter);
        }
        if last.value + 3.0 * last.error > 2.0 / 3.0 - 0.005 {
            findings.push(Finding::Ordered);
        }
        let drift = Estimate { value: last.value - first.value, error: last.error.hypot(first.error) };
        if drift.value.abs() - 3.0 * drift.error > 0.02 {
            findings.push(Finding::CumulantDrifts);
        }
        let hyperscaling = (x.value - 2.0 * y.value - f64::from(dimension)).abs();
        if hyperscaling > 0.1 + 3.0 * x.error.hypot(2.0 * y.error) || y.value + 3.0 * y.error > 0.0 {
            findings.push(Finding::NoHyperscaling);
        }
        (susceptibility, order) = (Some(chi), Some(m));
    }
    let verdict = match (undecided, findings.is_empty()) {
        (true, _) => Verdict::Undecided,
        (false, true) => Verdict::Critical,
        (false, false) => Verdict::NotCritical,
    };
    Ok(Diagnosis { verdict, findings, binder: cumulants, times, susceptibility, order })
}
