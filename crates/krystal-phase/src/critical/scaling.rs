//! How things grow with the size of a system.

use super::jackknife::Estimate;
use crate::error::{Error, Result};

/// A power of the size.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScalingFit {
    /// The exponent.
    pub exponent: Estimate,
    /// Squared deviations in units of the errors; about as many as `degrees_of_freedom` if it is a power.
    pub chi_squared: f64,
    /// Sizes beyond the two that any power fits.
    pub degrees_of_freedom: usize,
}

/// The exponent of `y = a L^x`, by weighted least squares of `ln y` against `ln L`.
///
/// At a critical point `<|m|>` goes like `L^(-beta/nu)` and `N <m^2>` like `L^(gamma/nu)`.
///
/// # Errors
/// [`Error::Counts`] for slices of different lengths, [`Error::TooFew`] for fewer than two different sizes, [`Error::Measured`] for
/// values that are not above 0 and finite, or without an error above 0.
pub fn scaling_exponent(sizes: &[f64], values: &[Estimate]) -> Result<ScalingFit> {
    if sizes.len() != values.len() {
        return Err(Error::Counts { what: "values", expected: sizes.len(), found: values.len() });
    }
    let positive = |found: f64, name| {
        let holds = found > 0.0 && found.is_finite();
        if holds { Ok(()) } else { Err(Error::Measured { name, expected: "above 0 and finite", found }) }
    };
    let mut sums = [0.0; 3];
    for (&size, y) in sizes.iter().zip(values) {
        positive(size, "size")?;
        positive(y.value, "value")?;
        positive(y.error, "error of a value")?;
        let weight = (y.value / y.error).powi(2);
        for (sum, term) in sums.iter_mut().zip([1.0, size.ln(), y.value.ln()]) {
            *sum += weight * term;
        }
    }
    let [total, x_mean, y_mean] = [sums[0], sums[1] / sums[0], sums[2] / sums[0]];
    let different = sizes.iter().any(|size| *size != sizes[0]);
    if !different || !total.is_finite() {
        return Err(Error::TooFew { what: "different sizes", needed: 2, found: usize::from(!sizes.is_empty()) });
    }
    let terms = || sizes.iter().zip(values).map(|(l, y)| ((y.value / y.error).powi(2), l.ln() - x_mean, y));
    let spread: f64 = terms().map(|(weight, x, _)| weight * x * x).sum();
    let exponent = terms().map(|(weight, x, y)| weight * x * (y.value.ln() - y_mean)).sum::<f64>() / spread;
    let chi_squared =
        terms().map(|(weight, x, y)| weight * (y.value.ln() - y_mean - exponent * x).powi(2)).sum::<f64>();
    Ok(ScalingFit {
        exponent: Estimate { value: exponent, error: spread.sqrt().recip() },
        chi_squared,
        degrees_of_freedom: sizes.len() - 2,
    })
}

/// Where two curves over the same temperatures cross, by linear interpolation: the temperature at which Binder's cumulants of two sizes
/// agree. `None` unless the difference changes its sign exactly once and is beyond two standard errors somewhere on each side.
///
/// # Errors
/// [`Error::Counts`] for slices of different lengths.
pub fn crossing(temperatures: &[f64], a: &[Estimate], b: &[Estimate]) -> Result<Option<Estimate>> {
    for found in [a.len(), b.len()] {
        if found != temperatures.len() {
            return Err(Error::Counts { what: "values", expected: temperatures.len(), found });
        }
    }
    let difference: Vec<Estimate> =
        a.iter().zip(b).map(|(a, b)| Estimate { value: a.value - b.value, error: a.error.hypot(b.error) }).collect();
    // Points that are within their errors of zero belong to neither side.
    let sides: Vec<(usize, f64)> = difference
        .iter()
        .enumerate()
        .filter(|(_, d)| d.value.abs() > 2.0 * d.error)
        .map(|(i, d)| (i, d.value.signum()))
        .collect();
    let changes: Vec<_> = sides.windows(2).filter(|pair| pair[0].1 != pair[1].1).collect();
    let [change] = changes[..] else { return Ok(None) };
    let ((i, _), (j, _)) = (change[0], change[1]);
    let ([t0, t1], [d0, d1]) = ([temperatures[i], temperatures[j]], [difference[i], difference[j]]);
    let share = d0.value / (d0.value - d1.value);
    let slope = (d1.value - d0.value) / (t1 - t0);
    let error = (d0.error * (1.0 - share)).hypot(d1.error * share) / slope.abs();
    Ok(Some(Estimate { value: t0 + share * (t1 - t0), error }))
}
