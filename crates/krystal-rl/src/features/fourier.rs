//! The Fourier basis.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, require, require_finite, require_len};
use crate::real::Real;

/// Settings of a [`FourierBasis`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FourierConfig {
    /// Least and greatest value of each axis; values outside count as these.
    pub ranges: Vec<(f64, f64)>,
    /// Highest frequency along an axis, 3 to 7 as a rule.
    pub order: u32,
    /// Divides feature `c` by the root of `|c|`, which with one step size `alpha` for all is the same as a step size of
    /// `alpha / |c|` each, as Konidaris et al. recommend. Default true.
    #[serde(default = "yes")]
    pub scaled: bool,
}

fn yes() -> bool {
    true
}

/// The Fourier basis of Konidaris, Osentoski and Thomas (2011, doi:10.1609/aaai.v25i1.7903): `cos(pi c . s)` for all
/// `c in {0, ..., order}^d` and the state `s` scaled to `[0, 1]^d`; `(order + 1)^d` features, `O(d)` each.
///
/// Cosines come from the platform's libm, whose last bit may differ between machines.
///
/// ```
/// use krystal_rl::{FourierBasis, FourierConfig};
///
/// let basis = FourierBasis::new(FourierConfig { ranges: vec![(0.0, 1.0); 2], order: 3, scaled: false })?;
/// let mut x = vec![0.0_f64; basis.n_features()];
/// basis.features(&[1.0, 0.0], &mut x)?;
/// assert_eq!((x.len(), x[0], x[4]), (16, 1.0, -1.0));
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FourierBasis {
    ranges: Vec<(f64, f64)>,
    /// `pi c`, one after another.
    frequencies: Vec<f64>,
    scales: Vec<f64>,
}

impl FourierBasis {
    /// # Errors
    /// [`Error::Setting`] for no axis, an axis without extent, or more than 2^20 features.
    pub fn new(config: FourierConfig) -> Result<Self> {
        const MOST: usize = 1 << 20;
        let FourierConfig { ranges, order, scaled } = config;
        require(!ranges.is_empty(), "ranges", "at least 1", 0.0)?;
        for (low, high) in &ranges {
            require(
                high - low > 0.0 && (high - low).is_finite(),
                "range",
                "from low to a higher finite number",
                *high,
            )?;
        }
        let (base, d) = (order as usize + 1, ranges.len());
        let n = u32::try_from(d).ok().and_then(|d| base.checked_pow(d)).filter(|n| *n <= MOST);
        let n = n.ok_or(Error::Setting {
            name: "order",
            expected: "such that there are at most 2^20 features",
            found: order.into(),
        })?;
        let mut frequencies = Vec::with_capacity(n * d);
        let mut scales = Vec::with_capacity(n);
        for feature in 0..n {
            let c = (0..d).rev().map(|axis| (feature / base.pow(axis as u32) % base) as f64);
            let norm = c.clone().map(|c| c * c).sum::<f64>().sqrt();
            scales.push(if scaled && norm > 0.0 { 1.0 / norm.sqrt() } else { 1.0 });
            frequencies.extend(c.map(|c| PI * c));
        }
        Ok(Self { ranges, frequencies, scales })
    }

    /// Features of a state.
    pub fn n_features(&self) -> usize {
        self.scales.len()
    }

    /// Writes the features of `state`; the last axis varies fastest.
    ///
    /// # Errors
    /// [`Error::Length`] for lengths that do not fit, [`Error::NotFinite`] for a state that is not finite.
    pub fn features<R: Real>(&self, state: &[f64], features: &mut [R]) -> Result<()> {
        require_len("coordinates", self.ranges.len(), state.len())?;
        require_len("places for features", self.n_features(), features.len())?;
        require_finite("coordinate", state)?;
        let frequencies = self.frequencies.chunks_exact(self.ranges.len());
        for ((x, c), scale) in features.iter_mut().zip(frequencies).zip(&self.scales) {
            let at =
                |((c, s), (low, high)): ((&f64, &f64), &(f64, f64))| c * (s.clamp(*low, *high) - low) / (high - low);
            let angle: f64 = c.iter().zip(state).zip(&self.ranges).map(at).sum();
            *x = R::from_f64(scale * angle.cos());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_the_cosines() {
        let ranges = vec![(-1.0, 1.0), (0.0, 4.0)];
        let basis = FourierBasis::new(FourierConfig { ranges, order: 2, scaled: true }).unwrap();
        let mut x = [0.0_f64; 9];
        basis.features(&[0.0, 1.0], &mut x).unwrap();
        let mut expected = Vec::new();
        for c0 in 0..3 {
            for c1 in 0..3 {
                let (c0, c1) = (f64::from(c0), f64::from(c1));
                let norm = c0.hypot(c1);
                expected.push((PI * (c0 * 0.5 + c1 * 0.25)).cos() / if norm > 0.0 { norm.sqrt() } else { 1.0 });
            }
        }
        assert!(x.iter().zip(&expected).all(|(x, e)| (x - e).abs() < 1e-15), "{x:?} {expected:?}");
        assert!(basis.features(&[f64::INFINITY, 0.0], &mut x).is_err());
        assert!(FourierBasis::new(FourierConfig { ranges: vec![(0.0, 1.0); 9], order: 7, scaled: true }).is_err());
    }
}
