//! What a learner sees of a state: a vector of features, dense or sparse.

mod dense;
mod fourier;
mod sparse;
mod tiles;

pub use fourier::{FourierBasis, FourierConfig};
pub use sparse::{Active, Sparse};
pub use tiles::{TileAxis, TileCoder, TileConfig, TileIndex};

pub(crate) use dense::{LANES, tree_sum};

use crate::error::{Error, Result};
use crate::real::Real;

/// A vector `x` of features, of which learners need sums and products with weights `w`.
///
/// Sealed; implemented by slices and arrays (dense), [`Sparse`] (indices and values) and [`Active`] (indices whose value is 1, as
/// [`TileCoder`] makes them). Methods other than `fits` expect that it has said yes; an index that a sparse vector names twice
/// counts twice.
pub trait Features<R: Real>: sealed::Sealed {
    /// # Errors
    /// [`Error::Length`] or [`Error::OutOfRange`] if this is no vector of `dim` features.
    fn fits(&self, dim: usize) -> Result<()>;
    /// `w . x`
    fn dot(&self, weights: &[R]) -> R;
    /// `w += scale x`
    fn add_to(&self, scale: R, weights: &mut [R]);
    /// Calls `f` with index and value of each feature that is not certainly 0.
    fn for_each(&self, f: impl FnMut(usize, R));
    /// Whether `for_each` visits all features.
    fn is_dense(&self) -> bool;

    /// `reward + discount w . next - w . self`
    #[doc(hidden)]
    #[inline(always)]
    fn temporal_difference(&self, reward: R, discount: R, next: &Self, weights: &[R]) -> R {
        reward + discount * next.dot(weights) - self.dot(weights)
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
    impl<R> Sealed for [R] {}
    impl<R, const N: usize> Sealed for [R; N] {}
    impl<R> Sealed for Vec<R> {}
    impl<R> Sealed for super::Sparse<'_, R> {}
    impl Sealed for super::Active<'_> {}
}

/// # Errors
/// [`Error::NotFinite`] for the first feature that is not finite.
pub(crate) fn check_finite<R: Real>(what: &'static str, x: &(impl Features<R> + ?Sized)) -> Result<()> {
    let mut wrong = None;
    x.for_each(|index, value| {
        if !value.is_finite() && wrong.is_none() {
            wrong = Some(Error::NotFinite { what, index, found: value.to_f64() });
        }
    });
    wrong.map_or(Ok(()), Err)
}

/// The sum of squares.
pub(crate) fn squared_norm<R: Real>(x: &(impl Features<R> + ?Sized)) -> R {
    let mut sum = R::ZERO;
    x.for_each(|_, value| sum += value * value);
    sum
}

/// Features `x` of `dim` as those from `offset` on of a longer vector.
pub(crate) struct At<'a, X: ?Sized> {
    pub(crate) x: &'a X,
    pub(crate) offset: usize,
    pub(crate) dim: usize,
}

impl<X: ?Sized> sealed::Sealed for At<'_, X> {}

impl<R: Real, X: Features<R> + ?Sized> Features<R> for At<'_, X> {
    fn fits(&self, _: usize) -> Result<()> {
        self.x.fits(self.dim)
    }

    #[inline(always)]
    fn dot(&self, weights: &[R]) -> R {
        self.x.dot(&weights[self.offset..self.offset + self.dim])
    }

    #[inline(always)]
    fn add_to(&self, scale: R, weights: &mut [R]) {
        self.x.add_to(scale, &mut weights[self.offset..self.offset + self.dim]);
    }

    #[inline(always)]
    fn for_each(&self, mut f: impl FnMut(usize, R)) {
        self.x.for_each(|index, value| f(self.offset + index, value));
    }

    fn is_dense(&self) -> bool {
        self.x.is_dense()
    }
}
