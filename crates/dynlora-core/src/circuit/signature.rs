//! Whether what happens now has happened before, at distant times.

use krystal_math::rng::{Purpose, stream_rng};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Bits of a signature.
pub const SIGNATURE_BITS: usize = 1024;
/// Distances, in windows, at which a pattern is compared with itself: neighbours are alike whatever they are (R36).
pub const LAGS: [usize; 4] = [8, 16, 32, 64];
/// Windows remembered: the largest lag and the present.
pub(super) const HISTORY: usize = LAGS[3] + 1;
/// Fewer comparisons are no repetition.
const MIN_LAGS: usize = 2;
/// The stream of the random signs among those of [`Purpose::Sketch`].
const STREAM: u64 = 0x0073_696d_6861_7368;

/// The signs of 1024 random projections of a vector (SimHash, Charikar 2002, doi:10.1145/509907.509965): 128 bytes that keep
/// angles.
///
/// The projections are three rounds of random signs and a Hadamard transform, `O(k log k)`, padded to a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature([u64; SIGNATURE_BITS / 64]);

impl Signature {
    /// The signature of a vector; `None` where it has no direction (all zero, or not finite).
    pub fn of(vector: &[f32]) -> Option<Self> {
        let largest = vector.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        if largest == 0.0 || !vector.iter().all(|x| x.is_finite()) {
            return None;
        }
        let n = vector.len().max(SIGNATURE_BITS).next_power_of_two();
        let mut values: Vec<f64> = vector.iter().map(|x| f64::from(*x) / f64::from(largest)).collect();
        values.resize(n, 0.0);
        for round in 0..3 {
            let mut rng = stream_rng(0, Purpose::Sketch, STREAM, round);
            for block in values.chunks_mut(64) {
                let signs = rng.next_u64();
                for (i, x) in block.iter_mut().enumerate() {
                    *x = f64::from_bits(x.to_bits() ^ (signs >> i & 1) << 63);
                }
            }
            hadamard(&mut values);
        }
        let mut bits = [0; SIGNATURE_BITS / 64];
        for (i, x) in values.iter().take(SIGNATURE_BITS).enumerate() {
            bits[i / 64] |= u64::from(*x > 0.0) << (i % 64);
        }
        Some(Self(bits))
    }

    /// About the cosine of the angle between the vectors: `cos(pi hamming / 1024)`, standard deviation at most
    /// `pi / (2 sqrt 1024) = 0.05`.
    pub fn cosine(&self, other: &Self) -> f64 {
        let hamming: u32 = self.0.iter().zip(&other.0).map(|(x, y)| (x ^ y).count_ones()).sum();
        (std::f64::consts::PI * f64::from(hamming) / SIGNATURE_BITS as f64).cos()
    }
}

/// Unnormalised fast Walsh-Hadamard transform of a power of two of values.
fn hadamard(values: &mut [f64]) {
    let mut half = 1;
    // Two stages at a time, while there are two.
    while 2 * half < values.len() {
        for block in values.chunks_exact_mut(4 * half) {
            let (left, right) = block.split_at_mut(2 * half);
            let ((a, b), (c, d)) = (left.split_at_mut(half), right.split_at_mut(half));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (sums, differences) = ((*a + *b, *c + *d), (*a - *b, *c - *d));
                (*a, *c) = (sums.0 + sums.1, sums.0 - sums.1);
                (*b, *d) = (differences.0 + differences.1, differences.0 - differences.1);
            }
        }
        half *= 4;
    }
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (left, right) = block.split_at_mut(half);
            for (x, y) in left.iter_mut().zip(right) {
                (*x, *y) = (*x + *y, *x - *y);
            }
        }
        half *= 2;
    }
}

/// Four standard deviations of the cosine of two unrelated vectors of `dimension` numbers, seen through signatures.
pub(super) fn noise_floor(dimension: usize) -> f64 {
    let bits = std::f64::consts::FRAC_PI_2.powi(2) / SIGNATURE_BITS as f64;
    4.0 * (1.0 / dimension.max(1) as f64 + bits).sqrt()
}

/// Mean cosine between the present and, for each lag, the latest time at least that long ago: `past(age)` is the signature
/// `age` windows ago, where there was one. `None` with fewer than two comparisons.
///
/// Looking for the latest occurrence lets a pattern that comes and goes be compared with itself, and not with what went on
/// in between.
pub fn autocorrelation(now: &Signature, past: impl Fn(usize) -> Option<Signature>) -> Option<f64> {
    let mut cosines = Vec::with_capacity(LAGS.len());
    let mut next = 0;
    for lag in LAGS {
        // Every occurrence is compared once.
        let Some(age) = (lag.max(next)..HISTORY).find(|age| past(*age).is_some()) else { break };
        cosines.push(past(age)?.cosine(now));
        next = age + 1;
    }
    (cosines.len() >= MIN_LAGS).then(|| cosines.iter().sum::<f64>() / cosines.len() as f64)
}

/// What all patterns of a layer have in common, so that it can be left out of each (R36).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SlowMean {
    mean: Vec<f32>,
    n: u64,
    /// Whether it is a mean from its first value on, or begins at zero and takes its time.
    from_the_start: bool,
}

/// Windows over which a slow mean forgets: eight times the largest lag, so that a pattern has its chance before it is
/// background.
const MEMORY: f64 = 512.0;

impl SlowMean {
    pub(super) fn new(from_the_start: bool) -> Self {
        Self { mean: Vec::new(), n: 0, from_the_start }
    }

    /// Takes `x` in and returns what is left of it without the mean.
    pub(super) fn centre(&mut self, x: &[f32]) -> Vec<f32> {
        self.mean.resize(x.len(), 0.0);
        self.n += 1;
        let rate = if self.from_the_start { (1.0 / self.n as f64).max(1.0 / MEMORY) } else { 1.0 / MEMORY };
        for (mean, x) in self.mean.iter_mut().zip(x) {
            *mean += (rate * f64::from(*x - *mean)) as f32;
        }
        x.iter().zip(&self.mean).map(|(x, mean)| x - mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    fn noise(k: usize, index: u64) -> Vec<f32> {
        let mut rng = stream_rng(3, Purpose::Weights, 9, index);
        // Sums of uniforms: near enough to normal.
        (0..k).map(|_| (0..6).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
    }

    fn cosine(x: &[f32], y: &[f32]) -> f64 {
        let dot = krystal_math::low_rank::dot_f32;
        dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
    }

    #[test]
    fn hamming_distances_are_angles() {
        for k in [12, 64, 300, 1024, 3000] {
            let mut errors = Vec::new();
            for i in 0..60 {
                let x = noise(k, 2 * i);
                let t = i as f32 / 60.0;
                let y: Vec<f32> = x.iter().zip(noise(k, 2 * i + 1)).map(|(x, e)| t * x + (1.0 - t) * e).collect();
                let (x_sig, y_sig) = (Signature::of(&x).unwrap(), Signature::of(&y).unwrap());
                errors.push(x_sig.cosine(&y_sig) - cosine(&x, &y));
                // The scale says nothing, the sign all.
                let scaled: Vec<f32> = x.iter().map(|x| 1e-30 * x).collect();
                assert_eq!(Signature::of(&scaled).unwrap().cosine(&x_sig), 1.0);
                let opposite: Vec<f32> = x.iter().map(|x| -x).collect();
                assert!(Signature::of(&opposite).unwrap().cosine(&x_sig) < -0.999);
            }
            let rms = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
            assert!(rms < 0.06, "{k} numbers: {rms}");
        }
        assert_eq!(Signature::of(&[0.0, 0.0]), None);
        assert_eq!(Signature::of(&[1.0, f32::NAN]), None);
        assert_eq!(Signature::of(&[]), None);
    }

    #[test]
    fn unrelated_patterns_stay_below_the_noise_floor() {
        for k in [64, 256, 1024] {
            let floor = noise_floor(k);
            for i in 0..200 {
                let (x, y) = (Signature::of(&noise(k, i)).unwrap(), Signature::of(&noise(k, 1000 + i)).unwrap());
                assert!(x.cosine(&y).abs() < floor, "{k}");
            }
        }
        assert!(noise_floor(8) > 1.0, "eight numbers say nothing");
    }

    #[test]
    fn occurrences_are_compared_at_distant_lags_only() {
        let (x, y) = (Signature::of(&noise(99, 1)).unwrap(), Signature::of(&noise(99, 2)).unwrap());
        // The last seven windows are alike, what was before is not.
        let recent = |age: usize| Some(if age < 8 { x } else { y });
        assert!(autocorrelation(&x, recent).unwrap() < 0.4);
        // Every tenth window is alike, in between is something else that is left out.
        let now_and_then = |age: usize| age.is_multiple_of(10).then_some(x);
        assert_eq!(autocorrelation(&x, now_and_then), Some(1.0));
        // Once is not twice.
        assert_eq!(autocorrelation(&x, |age| (age == 20).then_some(x)), None);
        assert_eq!(autocorrelation(&x, |_| None), None);
    }

    #[test]
    fn a_lasting_background_is_absorbed_and_a_pattern_is_not() {
        let common = noise(64, 5);
        let mut mean = SlowMean::new(false);
        let mut after = |windows: u32| (0..windows).fold(Vec::new(), |_, _| mean.centre(&common));
        let first = after(70);
        assert!(cosine(&first, &common) > 0.99, "seventy windows are a pattern");
        let left = after(4000);
        let size = |x: &[f32]| krystal_math::low_rank::dot_f32(x, x).sqrt();
        assert!(size(&left) < 0.01 * size(&common), "four thousand are the background");
    }
}
