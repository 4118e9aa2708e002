//! Random streams addressed by `(seed, stream, index)`.
//!
//! Every draw in Krystal comes from such an address, never from a generator that is passed along, so a result does not
//! depend on the order in which threads ask, and a resumed run draws what the uninterrupted one would have drawn.

use std::convert::Infallible;

use rand::rand_core::TryRng;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator behind every stream: ChaCha with 8 rounds. A change of generator is value-breaking.
pub type StreamRng = ChaCha8Rng;

/// Names the purpose of a stream, so that two users of one seed never share draws.
///
/// Values are stable: changing one changes the results of recorded runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
#[non_exhaustive]
pub enum Purpose {
    /// Initial values of model weights.
    Weights = 1,
    /// Initial values of adapter factors.
    Adapter = 2,
    /// The order in which prompts are visited.
    PromptOrder = 3,
    /// Tokens sampled while training.
    Rollout = 4,
    /// Tokens sampled while evaluating.
    Evaluation = 5,
    /// Tokens sampled for a user.
    Generation = 6,
    /// Problems made by a task's generator.
    Task = 7,
    /// Demonstrations for supervised training.
    Demonstration = 8,
    /// The order in which supervised examples are visited.
    ExampleOrder = 9,
    /// Tables of random projections.
    Sketch = 10,
    /// Initial values of the layers of a dynamic adapter.
    DynamicAdapter = 11,
    /// The order in which work is handed out, shuffled to see that nothing depends on it.
    Schedule = 12,
    /// Numbers to check the machine with.
    SelfCheck = 13,
    /// Initial values and draws of an online learner.
    Learner = 14,
    /// Actions taken by chance.
    Exploration = 15,
    /// Transitions drawn from a replay buffer.
    Replay = 16,
    /// Positions and moves of the particles of a swarm.
    Swarm = 17,
    /// Moves proposed and accepted by annealing, and swaps of parallel tempering.
    Annealing = 18,
    /// Samples drawn again to measure an uncertainty.
    Resampling = 19,
    /// Spins and other variables of a simulated system.
    Simulation = 20,
}

/// The generator of one stream.
///
/// The 256-bit ChaCha key is `seed | purpose | stream | index`, each little-endian `u64`: distinct addresses are distinct
/// keys, so streams cannot overlap.
///
/// ```
/// use krystal_math::rng::{Purpose, stream_rng};
/// use rand::RngExt;
///
/// let a: f64 = stream_rng(7, Purpose::Rollout, 3, 0).random();
/// let b: f64 = stream_rng(7, Purpose::Rollout, 3, 0).random();
/// let c: f64 = stream_rng(7, Purpose::Rollout, 4, 0).random();
/// assert_eq!(a, b);
/// assert_ne!(a, c);
/// ```
pub fn stream_rng(seed: u64, purpose: Purpose, stream: u64, index: u64) -> StreamRng {
    let mut key = [0_u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, stream, index]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A generator for inner loops: SplitMix64, whose `n`-th number is a function of `n`.
///
/// `z = seed + n gamma` goes through Stafford's variant 13 of MurmurHash3's finalizer: a few cycles a number where ChaCha takes
/// some ten, and loops over it can be vectorised. It is for moves and simulations, not for secrets. Steele, Lea and Flood (2014),
/// doi:10.1145/2714064.2660195.
///
/// ```
/// use krystal_math::rng::{Purpose, SplitMix64};
///
/// let mut walked = SplitMix64::stream(7, Purpose::Swarm, 3, 0);
/// let there = walked.after(2);
/// walked.uniform();
/// walked.uniform();
/// assert_eq!(walked, there);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
    gamma: u64,
}

impl SplitMix64 {
    /// The generator of the stream at this address; streams differ in where they start and in how far they step.
    pub fn stream(seed: u64, purpose: Purpose, stream: u64, index: u64) -> Self {
        let mut rng = stream_rng(seed, purpose, stream, index);
        Self { state: rng.next_u64(), gamma: mix_gamma(rng.next_u64()) }
    }

    /// This generator `n` numbers later.
    #[inline]
    pub fn after(self, n: u64) -> Self {
        Self { state: self.state.wrapping_add(self.gamma.wrapping_mul(n)), ..self }
    }

    /// The next number.
    #[inline]
    pub fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(self.gamma);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next_word() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in `0..n` without bias (Lemire 2019, doi:10.1145/3230636). `n` must not be zero.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        debug_assert_ne!(n, 0);
        loop {
            let wide = u128::from(self.next_word()) * u128::from(n);
            let low = wide as u64;
            if low >= n || low >= n.wrapping_neg() % n {
                return (wide >> 64) as u64;
            }
        }
    }

    /// A draw of the standard normal distribution (Marsaglia's polar method, one of its two numbers: no state is kept).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                return u * (-2.0 * s.ln() / s).sqrt();
            }
        }
    }
}

impl TryRng for SplitMix64 {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next_word() >> 32) as u32)
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next_word())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An odd step whose bits change often enough (Steele et al., section 5).
fn mix_gamma(mut z: u64) -> u64 {
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z = (z ^ (z >> 33)) | 1;
    if (z ^ (z >> 1)).count_ones() < 24 { z ^ 0xaaaa_aaaa_aaaa_aaaa } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of SplitMix64 from 1234567, as listed at rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64.
    #[test]
    fn split_mix_gives_the_published_numbers() {
        let mut rng = SplitMix64 { state: 1_234_567, gamma: 0x9e37_79b9_7f4a_7c15 };
        let numbers: [u64; 5] = std::array::from_fn(|_| rng.next_word());
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn streams_start_and_step_apart() {
        let a = SplitMix64::stream(1, Purpose::Swarm, 0, 0);
        for other in [
            SplitMix64::stream(2, Purpose::Swarm, 0, 0),
            SplitMix64::stream(1, Purpose::Replay, 0, 0),
            SplitMix64::stream(1, Purpose::Swarm, 1, 0),
            SplitMix64::stream(1, Purpose::Swarm, 0, 1),
        ] {
            assert!(a.state != other.state && a.gamma != other.gamma);
            assert_eq!(other.gamma % 2, 1);
        }
    }

    /// Moments of 200,000 draws within five standard errors: false alarms about 1 in 10^6.
    #[test]
    fn draws_have_their_moments() {
        let mut rng = SplitMix64::stream(3, Purpose::SelfCheck, 0, 0);
        let n = 200_000;
        let error = 5.0 / (n as f64).sqrt();
        let uniform: Vec<f64> = (0..n).map(|_| rng.uniform()).collect();
        let normal: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = |x: &[f64], power: i32| x.iter().map(|x| x.powi(power)).sum::<f64>() / n as f64;
        assert!((mean(&uniform, 1) - 0.5).abs() < error * 0.289);
        assert!((mean(&uniform, 2) - 1.0 / 3.0).abs() < error * 0.299);
        for (power, moment, spread) in [(1, 0.0, 1.0), (2, 1.0, 1.42), (3, 0.0, 3.88), (4, 3.0, 9.8)] {
            assert!((mean(&normal, power) - moment).abs() < error * spread, "moment {power}: {}", mean(&normal, power));
        }
        let mut counts = [0_u32; 6];
        (0..n).for_each(|_| counts[rng.below(6) as usize] += 1);
        let expected = n as f64 / 6.0;
        let chi2: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        // The 1 - 10^-6 quantile of chi-square with 5 degrees of freedom.
        assert!(chi2 < 35.9, "{counts:?}");
    }
}
