//! Random numbers that spread retries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// SplitMix64 as a function of a seed and a counter, so that threads draw from one sequence without a lock.
///
/// G. L. Steele, D. Lea, C. H. Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014.
#[derive(Debug)]
pub(super) struct Jitter {
    seed: u64,
    drawn: AtomicU64,
}

impl Jitter {
    /// Draws that a seed fixes. Without one, the time and the process are the seed, so that processes which start together do not wait
    /// in step.
    pub(super) fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            mix(since.as_nanos() as u64) ^ u64::from(std::process::id())
        });
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// The next draw, uniform in `[0, 1)`.
    pub(super) fn draw(&self) -> f64 {
        let n = self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let bits = mix(self.seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_splitmix64() {
        // The first outputs for the seed 1234567, as published with Java's SplittableRandom and in Rosetta Code.
        let jitter = Jitter::new(Some(1_234_567));
        let expected = [6_457_827_717_110_365_317_u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        for bits in expected {
            assert_eq!(jitter.draw(), (bits >> 11) as f64 / (1_u64 << 53) as f64);
        }
    }

    #[test]
    fn draws_fill_the_interval() {
        let jitter = Jitter::new(Some(7));
        let draws: Vec<f64> = (0..10_000).map(|_| jitter.draw()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        // Five standard deviations of the mean of 10,000 uniform draws.
        assert!((mean - 0.5).abs() < 5.0 * 0.288_675 / 100.0, "{mean}");
    }
}
