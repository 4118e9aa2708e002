//! What fluctuations say.

use super::jackknife::{Estimate, jackknife};
use crate::error::{Error, Result};

/// The heat capacity per site, `C/N = (<E^2> - <E>^2) / (N T^2)`, from a series of total energies.
///
/// # Errors
/// As [`jackknife`], and [`Error::Temperature`] for a temperature that is not above 0.
pub fn heat_capacity(energies: &[f64], n_sites: usize, temperature: f64, n_blocks: usize) -> Result<Estimate> {
    let t = above_zero(temperature)?;
    // About any constant the variance is the same, and near the mean it does not cancel.
    let origin = energies.first().copied().unwrap_or(0.0);
    let scale = n_sites as f64 * t * t;
    jackknife(energies, n_blocks, |e| [e - origin, (e - origin).powi(2)], |[e, e2]| (e2 - e * e).max(0.0) / scale)
}

/// The susceptibility per site, `chi = N (<m^2> - <|m|>^2) / T`, from a series of order parameters per site; of the two usual ones that which
/// has a peak at the transition of a finite system.
///
/// # Errors
/// As [`jackknife`], and [`Error::Temperature`] for a temperature that is not above 0.
pub fn susceptibility(order: &[f64], n_sites: usize, temperature: f64, n_blocks: usize) -> Result<Estimate> {
    let scale = n_sites as f64 / above_zero(temperature)?;
    jackknife(order, n_blocks, |m| [m.abs(), m * m], |[m, m2]| (m2 - m * m).max(0.0) * scale)
}

/// `<|m|>`.
///
/// # Errors
/// As [`jackknife`].
pub fn mean_absolute(order: &[f64], n_blocks: usize) -> Result<Estimate> {
    jackknife(order, n_blocks, |m| [m.abs()], |[m]| m)
}

/// Binder's cumulant `U4 = 1 - <m^4> / (3 <m^2>^2)`: 2/3 deep in an ordered phase, 0 for Gaussian fluctuations about 0, and between
/// them, independent of the size of the system, where it is critical.
///
/// Binder (1981), doi:10.1007/BF01293604.
///
/// # Errors
/// As [`jackknife`], and [`Error::Measured`] if the order parameter is 0 throughout.
pub fn binder(order: &[f64], n_blocks: usize) -> Result<Estimate> {
    // The largest is scaled to 1: fourth powers neither overflow nor vanish.
    let largest = order.iter().fold(0.0_f64, |largest, m| largest.max(m.abs()));
    if largest == 0.0 && !order.is_empty() {
        return Err(Error::Measured { name: "order parameter", expected: "not 0 throughout", found: 0.0 });
    }
    let moments = |m: f64| {
        let m2 = (m / largest).powi(2);
        [m2, m2 * m2]
    };
    jackknife(order, n_blocks, moments, |[m2, m4]| 1.0 - m4 / (3.0 * m2 * m2))
}

fn above_zero(temperature: f64) -> Result<f64> {
    if temperature > 0.0 { Ok(temperature) } else { Err(Error::Temperature { found: temperature }) }
}
