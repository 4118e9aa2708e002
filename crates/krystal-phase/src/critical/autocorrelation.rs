//! How long a series remembers.

use krystal_math::statistics::{mean, sum};

use super::check;
use crate::error::{Result, setting};

/// An integrated autocorrelation time.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct IntegratedTime {
    /// `tau`: that many samples are worth one independent one. 1 if they are independent.
    pub tau: f64,
    /// Its standard error, `tau sqrt(2 (2 W + 1) / n)` (Madras and Sokal 1988).
    pub error: f64,
    /// `W`, where the sum was cut.
    pub window: usize,
    /// Whether the series is at least 50 `tau` long; if it is not, `tau` is a lower limit.
    pub is_reliable: bool,
}

/// `tau = 1 + 2 sum_{t=1}^{W} rho(t)`, with the autocorrelation `rho` and Sokal's window: the smallest `W >= c tau(W)`, so that what lies
/// beyond is more noise than signal. `c = 5` is usual. `O(n W)`.
///
/// A series that does not change remembers everything: `tau = n`.
///
/// ```
/// use krystal_phase::critical::integrated_time;
///
/// let alternating: Vec<f64> = (0..1000).map(|i| f64::from(i % 2)).collect();
/// assert!(integrated_time(&alternating, 5.0)?.tau < 0.1);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
///
/// Sokal (1997), doi:10.1007/978-1-4899-0319-8_6.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite), [`Error::TooFew`](crate::Error::TooFew) for fewer than 10 samples,
/// [`Error::Setting`](crate::Error::Setting) for `c` not above 0.
pub fn integrated_time(series: &[f64], c: f64) -> Result<IntegratedTime> {
    setting(c > 0.0 && c.is_finite(), "c", "above 0 and finite", c)?;
    check(series, "samples", 10)?;
    let n = series.len();
    let centre = mean(series);
    let x: Vec<f64> = series.iter().map(|x| x - centre).collect();
    let variance = sum(x.iter().map(|x| x * x));
    if variance == 0.0 {
        return Ok(IntegratedTime { tau: n as f64, error: n as f64, window: n - 1, is_reliable: false });
    }
    let mut tau = 1.0;
    let mut window = n - 1;
    for lag in 1..n {
        tau += 2.0 * dot(&x[..n - lag], &x[lag..]) / variance;
        if lag as f64 >= c * tau {
            window = lag;
            break;
        }
    }
    // Strong anticorrelation can sum to less than nothing by noise.
    let tau = tau.max(1.0 / n as f64);
    let error = tau * (2.0 * (2 * window + 1) as f64 / n as f64).sqrt();
    Ok(IntegratedTime { tau, error, window, is_reliable: n as f64 >= 50.0 * tau })
}

/// In eight lanes, so that it is vectorised and its order fixed.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}
