//! Sums without rounding, to measure those with.
//!
//! A number is kept as a list of `f64` that do not overlap and add up to it exactly (Shewchuk, "Adaptive Precision
//! Floating-Point Arithmetic and Fast Robust Geometric Predicates", 1997, doi:10.1007/PL00009321, Grow-Expansion). A product of
//! two `f32` is exact in `f64`, so weighted leaves are added exactly too.

use serde::{Deserialize, Serialize};

/// The exact sum of numbers added so far, to be rounded once at the end.
///
/// Exact unless a partial sum exceeds the range of `f64`, which sums of `f32` products do not below 2^700 terms; a number that
/// is not finite makes the sum so.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExactSum {
    /// Growing in magnitude, none overlapping the next.
    parts: Vec<f64>,
    non_finite: f64,
}

impl ExactSum {
    /// Adds a number.
    pub fn add(&mut self, x: f64) {
        if !x.is_finite() {
            self.non_finite += x;
            return;
        }
        let mut x = x;
        let mut kept = 0;
        for at in 0..self.parts.len() {
            let part = self.parts[at];
            let sum = x + part;
            let part_in_sum = sum - x;
            let lost = (x - (sum - part_in_sum)) + (part - part_in_sum);
            if lost != 0.0 {
                self.parts[kept] = lost;
                kept += 1;
            }
            x = sum;
        }
        self.parts.truncate(kept);
        if x != 0.0 {
            self.parts.push(x);
        }
    }

    /// Adds `weight * x`, exactly.
    pub fn add_weighted(&mut self, weight: f32, x: f32) {
        self.add(f64::from(weight) * f64::from(x));
    }

    /// The sum as the nearest `f64` but one rounding at most.
    pub fn value(&self) -> f64 {
        if self.non_finite != 0.0 || self.non_finite.is_nan() {
            return self.non_finite;
        }
        self.parts.iter().sum()
    }

    /// The sum rounded once to the nearest `f32`, ties to even.
    pub fn to_f32(&self) -> f32 {
        let value = self.value();
        let rounded = value as f32;
        if !rounded.is_finite() || self.parts.len() < 2 {
            return rounded;
        }
        // Rounding to f64 first may have put the sum on the middle between two f32, or across it.
        let minus = |x: f64| {
            let mut rest = self.clone();
            rest.add(-x);
            rest.value()
        };
        let next = if minus(f64::from(rounded)) > 0.0 { rounded.next_up() } else { rounded.next_down() };
        // The parts do not overlap, so the sign of their rounded sum is that of the exact one.
        let middle = (f64::from(rounded) + f64::from(next)) / 2.0;
        let beyond = minus(middle) * f64::from(next - rounded).signum();
        if beyond > 0.0 || (beyond == 0.0 && next.to_bits() & 1 == 0) { next } else { rounded }
    }
}

/// How far a sum is from the exact one, over all its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SumError {
    /// Numbers compared.
    pub n_parameters: usize,
    /// Numbers that differ from the exact sum rounded to `f32`.
    pub n_differing: usize,
    /// Largest `|sum - exact|`.
    pub max_absolute: f64,
    /// Largest `|sum - exact| / sum of |terms|`, in units of `u = 2^-24`: what the error bounds of summation are about.
    pub max_in_u: f64,
    /// `|sum - exact|` over `|exact|`, in the Euclidean norm.
    pub relative_norm: f64,
}

/// Compares `sum` with the exact weighted sum of `sources`.
///
/// Costs a few dozen operations for each number of each source: for tests and `doctor`.
///
/// # Panics
/// If the lengths disagree.
pub fn compare<E: crate::Element>(sum: &[f32], sources: &[&[E]], weights: &[f32]) -> SumError {
    let mut found = SumError { n_parameters: sum.len(), ..SumError::default() };
    let (mut difference, mut norm) = (0.0, 0.0);
    for (at, sum) in sum.iter().enumerate() {
        let (mut exact, mut magnitude) = (ExactSum::default(), 0.0);
        for (i, source) in sources.iter().enumerate() {
            let (weight, x) = (weights.get(i).copied().unwrap_or(1.0), source[at].to_f32());
            exact.add_weighted(weight, x);
            magnitude += (f64::from(weight) * f64::from(x)).abs();
        }
        let rounded = exact.to_f32();
        norm += exact.value() * exact.value();
        exact.add(-f64::from(*sum));
        let error = exact.value().abs();
        difference += error * error;
        found.n_differing += usize::from(rounded.to_bits() != sum.to_bits() && rounded != *sum);
        found.max_absolute = found.max_absolute.max(error);
        if magnitude > 0.0 {
            found.max_in_u = found.max_in_u.max(error / magnitude * f64::from(1 << 24));
        }
    }
    found.relative_norm = if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(terms: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        terms.iter().for_each(|x| sum.add(*x));
        sum
    }

    #[test]
    fn nothing_is_lost() {
        assert_eq!(sum_of(&[1e16, 1.0, -1e16]).value(), 1.0);
        assert_eq!(sum_of(&[1e300, 1.0, -1e300, 1e-300, -1.0]).value(), 1e-300);
        assert_eq!(sum_of(&[]).to_f32(), 0.0);
        let mut terms: Vec<f64> = (0..1000).map(|i| 2.0_f64.powi(i % 200 - 100)).collect();
        terms.extend(terms.clone().iter().map(|x| -x));
        assert_eq!(sum_of(&terms).value(), 0.0);
    }

    #[test]
    fn the_sum_is_rounded_once() {
        // Halfway between two f32, and a hair more or less than f64 can hold beside it.
        let half = f64::from(f32::EPSILON) / 2.0;
        assert_eq!(sum_of(&[1.0, half]).to_f32(), 1.0);
        assert_eq!(sum_of(&[1.0, half, 1e-40]).to_f32(), 1.0 + f32::EPSILON);
        assert_eq!(sum_of(&[1.0, half, -1e-40]).to_f32(), 1.0);
        assert_eq!(sum_of(&[1.0, 3.0 * half, -1e-40]).to_f32(), 1.0 + f32::EPSILON);
        assert_eq!(sum_of(&[1.0, 3.0 * half]).to_f32(), 1.0 + 2.0 * f32::EPSILON);
    }

    #[test]
    fn what_is_not_finite_shows() {
        assert!(sum_of(&[1.0, f64::NAN]).to_f32().is_nan());
        assert_eq!(sum_of(&[1.0, f64::INFINITY]).to_f32(), f32::INFINITY);
        assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY]).to_f32().is_nan());
    }
}
