//! Eligibility traces: a fading memory of features.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::features::{Features, sealed};
use crate::real::Real;

/// What becomes of the trace of a feature that is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// `z <- gamma lambda z + x`
    #[default]
    Accumulating,
    /// `z_i <- x_i` where `x_i != 0`, else `gamma lambda z_i` (Singh and Sutton 1996, doi:10.1007/BF00114726); made for binary features.
    Replacing,
}

/// Traces of sparse features below this share of a fresh one are forgotten; traces of dense features never are.
const FORGOTTEN: f64 = 1e-9;

/// A trace, as sparse as the features it has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Trace<R: Real> {
    values: Vec<R>,
    /// Features whose trace is not 0, in no order, each once; unused once a dense vector was met.
    active: Vec<u32>,
    dense: bool,
}

impl<R: Real> Trace<R> {
    pub(crate) fn new(dim: usize) -> Self {
        Self { values: vec![R::ZERO; dim], active: Vec::new(), dense: false }
    }

    /// Whether this is a trace of `dim` features.
    pub(crate) fn fits_dim(&self, dim: usize) -> bool {
        self.values.len() == dim && self.active.iter().all(|i| (*i as usize) < dim)
    }

    pub(crate) fn reset(&mut self) {
        if self.dense {
            self.values.fill(R::ZERO);
        }
        for i in self.active.drain(..) {
            self.values[i as usize] = R::ZERO;
        }
    }

    /// `z <- factor z`
    #[inline]
    pub(crate) fn decay(&mut self, factor: R) {
        if factor == R::ZERO {
            self.reset();
        } else if self.dense {
            self.values.iter_mut().for_each(|z| *z *= factor);
        } else {
            let values = &mut self.values;
            self.active.retain(|i| {
                let z = &mut values[*i as usize];
                *z *= factor;
                let keep = z.abs().to_f64() > FORGOTTEN;
                if !keep {
                    *z = R::ZERO;
                }
                keep
            });
        }
    }

    /// `z <- z + scale x`
    #[inline]
    pub(crate) fn add(&mut self, scale: R, x: &(impl Features<R> + ?Sized)) {
        self.meet(x);
        if self.dense {
            x.add_to(scale, &mut self.values);
        } else {
            x.for_each(|i, x| self.put(i, self.values[i] + scale * x));
        }
    }

    /// `z_i <- x_i` where `x_i != 0`
    pub(crate) fn replace(&mut self, x: &(impl Features<R> + ?Sized)) {
        self.meet(x);
        x.for_each(|i, x| {
            if x != R::ZERO {
                self.put(i, x);
            }
        });
    }

    /// `z . x`
    #[inline]
    pub(crate) fn product(&self, x: &(impl Features<R> + ?Sized)) -> R {
        x.dot(&self.values)
    }

    fn meet(&mut self, x: &(impl Features<R> + ?Sized)) {
        if !self.dense && x.is_dense() {
            self.dense = true;
            self.active.clear();
        }
    }

    #[inline]
    fn put(&mut self, i: usize, value: R) {
        let before = std::mem::replace(&mut self.values[i], value);
        if self.dense {
            return;
        }
        if before == R::ZERO && value != R::ZERO {
            self.active.push(i as u32);
        } else if before != R::ZERO && value == R::ZERO {
            self.active.retain(|active| *active as usize != i);
        }
    }
}

impl<R: Real> sealed::Sealed for Trace<R> {}

impl<R: Real> Features<R> for Trace<R> {
    fn fits(&self, dim: usize) -> Result<()> {
        self.values.fits(dim)
    }

    #[inline]
    fn dot(&self, weights: &[R]) -> R {
        if self.dense {
            return self.values.dot(weights);
        }
        self.active.iter().fold(R::ZERO, |sum, i| sum + weights[*i as usize] * self.values[*i as usize])
    }

    #[inline]
    fn add_to(&self, scale: R, weights: &mut [R]) {
        if self.dense {
            self.values.add_to(scale, weights);
        } else {
            self.active.iter().for_each(|i| weights[*i as usize] += scale * self.values[*i as usize]);
        }
    }

    #[inline]
    fn for_each(&self, mut f: impl FnMut(usize, R)) {
        if self.dense {
            self.values.for_each(f);
        } else {
            self.active.iter().for_each(|i| f(*i as usize, self.values[*i as usize]));
        }
    }

    fn is_dense(&self) -> bool {
        self.dense
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Active, Sparse};

    #[test]
    fn a_sparse_trace_is_the_dense_one() {
        let mut sparse = Trace::<f64>::new(5);
        let mut dense = Trace::<f64>::new(5);
        let vectors: [([u32; 2], [f64; 2]); 4] =
            [([0, 3], [1.0, -2.0]), ([3, 4], [0.5, 1.0]), ([0, 0], [1.0, 2.0]), ([1, 3], [3.0, 1.0])];
        for (indices, values) in &vectors {
            let mut full = [0.0; 5];
            Sparse::new(indices, values).unwrap().add_to(1.0, &mut full);
            sparse.decay(0.5);
            dense.decay(0.5);
            sparse.add(1.0, &Sparse::new(indices, values).unwrap());
            dense.add(1.0, &full);
            assert_eq!(sparse.values, dense.values);
            let w = [1.0, 2.0, 3.0, 4.0, 5.0];
            assert_eq!(sparse.dot(&w), dense.dot(&w));
        }
        sparse.replace(&Active(&[2]));
        dense.replace(&[0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(sparse.values, dense.values);
        sparse.reset();
        assert!(sparse.active.is_empty() && sparse.values.iter().all(|z| *z == 0.0));
    }

    #[test]
    fn what_faded_is_forgotten() {
        let mut trace = Trace::<f32>::new(3);
        trace.add(1.0, &Active(&[1]));
        for _ in 0..40 {
            trace.decay(0.5);
        }
        assert!(trace.active.is_empty() && trace.values == [0.0; 3]);
    }

    #[test]
    fn a_trace_that_cancels_is_no_longer_listed() {
        let mut trace = Trace::<f32>::new(3);
        trace.add(1.0, &Active(&[1]));
        trace.add(-1.0, &Active(&[1]));
        assert!(trace.active.is_empty());
        trace.add(1.0, &Active(&[1]));
        assert_eq!(trace.active, [1]);
    }
}
