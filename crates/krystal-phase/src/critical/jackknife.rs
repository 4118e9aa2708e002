//! Errors of anything that is computed from means of correlated samples.

use krystal_math::statistics::sum;

use super::check;
use crate::error::{Result, setting};

/// A number and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

impl Estimate {
    /// By how many standard errors it differs from `other`; infinite if the error is 0 and they differ.
    pub fn z(&self, other: f64) -> f64 {
        if self.value == other { 0.0 } else { (self.value - other) / self.error }
    }
}

/// `f(<g_1>, ..., <g_K>)` of a series `x`, for functions `g` of one sample, with the error of a jackknife over blocks.
///
/// The series is cut into `n_blocks` blocks of equal length (what is left over at the end is not used); `f` is computed without each
/// of them in turn, `sigma^2 = (B - 1)/B sum_b (f_b - mean f_b)^2`. Blocks must be several autocorrelation times long; ten or more of them
/// know the error to 25 %.
///
/// ```
/// use krystal_phase::critical::jackknife;
///
/// let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let mean = jackknife(&x, 6, |x| [x], |[mean]| mean)?;
/// // Of a mean of independent samples it is the standard error: sqrt(3.5 / 6).
/// assert!((mean.value - 3.5).abs() < 1e-15 && (mean.error - (3.5_f64 / 6.0).sqrt()).abs() < 1e-15);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
///
/// Quenouille (1956), doi:10.1093/biomet/43.3-4.353.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite), [`Error::Setting`](crate::Error::Setting) for fewer than 2 blocks,
/// [`Error::TooFew`](crate::Error::TooFew) for fewer samples than blocks.
pub fn jackknife<const K: usize>(
    series: &[f64],
    n_blocks: usize,
    g: impl Fn(f64) -> [f64; K],
    f: impl Fn([f64; K]) -> f64,
) -> Result<Estimate> {
    setting(n_blocks >= 2, "n_blocks", "at least 2", n_blocks as f64)?;
    check(series, "samples", n_blocks)?;
    let length = series.len() / n_blocks;
    let blocks: Vec<[f64; K]> = series
        .chunks_exact(length)
        .take(n_blocks)
        .map(|block| std::array::from_fn(|k| sum(block.iter().map(|&x| g(x)[k]))))
        .collect();
    let total: [f64; K] = std::array::from_fn(|k| sum(blocks.iter().map(|block| block[k])));
    let n = (n_blocks * length) as f64;
    let value = f(total.map(|total| total / n));
    let rest = n - length as f64;
    let without: Vec<f64> =
        blocks.iter().map(|block| f(std::array::from_fn(|k| (total[k] - block[k]) / rest))).collect();
    let mean = krystal_math::statistics::mean(&without);
    let b = n_blocks as f64;
    let error = ((b - 1.0) / b * sum(without.iter().map(|x| (x - mean).powi(2)))).sqrt();
    Ok(Estimate { value, error })
}
