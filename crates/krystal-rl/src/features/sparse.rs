//! Sparse vectors.

use super::Features;
use crate::error::{Error, Result};
use crate::real::Real;

/// Features that are 0 but for a few.
///
/// ```
/// use krystal_rl::{Next, Sparse, Td, TdConfig};
///
/// let mut td = Td::<f32>::new(1_000_000, TdConfig::default())?;
/// let here = Sparse::new(&[3, 999_999], &[0.5, -1.0])?;
/// td.update(&here, 1.0, Next::Terminated)?;
/// assert_eq!(td.value(&here)?, 0.125);
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sparse<'a, R> {
    indices: &'a [u32],
    values: &'a [R],
}

impl<'a, R: Real> Sparse<'a, R> {
    /// The vector with `values` at `indices`; an index given twice has the sum of both values.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not as many indices as values.
    pub fn new(indices: &'a [u32], values: &'a [R]) -> Result<Self> {
        crate::error::require_len("values of sparse features", indices.len(), values.len())?;
        Ok(Self { indices, values })
    }
}

impl<R: Real> Features<R> for Sparse<'_, R> {
    fn fits(&self, dim: usize) -> Result<()> {
        fits(self.indices, dim)
    }

    #[inline]
    fn dot(&self, weights: &[R]) -> R {
        self.indices.iter().zip(self.values).fold(R::ZERO, |sum, (at, x)| sum + weights[*at as usize] * *x)
    }

    #[inline]
    fn add_to(&self, scale: R, weights: &mut [R]) {
        self.for_each(|at, x| weights[at] += scale * x);
    }

    #[inline]
    fn for_each(&self, mut f: impl FnMut(usize, R)) {
        self.indices.iter().zip(self.values).for_each(|(at, x)| f(*at as usize, *x));
    }

    fn is_dense(&self) -> bool {
        false
    }
}

/// Features that are 0 but for a few, which are 1: tiles, words, the state of a small chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active<'a>(pub &'a [u32]);

impl<R: Real> Features<R> for Active<'_> {
    fn fits(&self, dim: usize) -> Result<()> {
        fits(self.0, dim)
    }

    #[inline]
    fn dot(&self, weights: &[R]) -> R {
        self.0.iter().fold(R::ZERO, |sum, at| sum + weights[*at as usize])
    }

    #[inline]
    fn add_to(&self, scale: R, weights: &mut [R]) {
        self.0.iter().for_each(|at| weights[*at as usize] += scale);
    }

    #[inline]
    fn for_each(&self, mut f: impl FnMut(usize, R)) {
        self.0.iter().for_each(|at| f(*at as usize, R::ONE));
    }

    fn is_dense(&self) -> bool {
        false
    }
}

fn fits(indices: &[u32], dim: usize) -> Result<()> {
    match indices.iter().find(|at| **at as usize >= dim) {
        None => Ok(()),
        Some(at) => Err(Error::OutOfRange { what: "feature", index: *at as usize, len: dim }),
    }
}
