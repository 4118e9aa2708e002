//! A deceptive landscape.

use krystal_math::rng::{Purpose, SplitMix64};

use crate::anneal::Problem;
use crate::error::{Result, setting};

/// Deceptive traps on strings of bits: nearly everywhere the slope leads away from the best.
///
/// With `u` ones among the `n` bits of a trap, its energy is `a (u/z - 1)` below its rim, `u <= z`, and `-b (u - z) / (n - z)` above:
/// a wide funnel down to `-a` at all zeros, and a narrow one down to `-b` at all ones. A random string lies above the rim with
/// the probability that `n` coins show more than `z` heads. The energy of several traps is their sum; a move flips one bit.
///
/// Deb and Goldberg (1993), doi:10.1016/B978-0-08-094832-4.50012-X.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trap {
    n_traps: usize,
    n_bits: usize,
    rim: usize,
    wide: f64,
    narrow: f64,
}

/// Bits of all traps, and how many of each trap's are one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BitState {
    bits: Vec<bool>,
    ones: Vec<usize>,
}

impl Trap {
    /// `n_traps` traps of `n_bits` bits each, with the rim at `rim` ones and funnels of depths `wide` and `narrow`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) without traps, for a rim that is not within them, or depths that are not above 0 and
    /// finite.
    pub fn new(n_traps: usize, n_bits: usize, rim: usize, wide: f64, narrow: f64) -> Result<Self> {
        setting(n_traps >= 1, "n_traps", "at least 1", n_traps as f64)?;
        setting(rim >= 1 && rim < n_bits, "rim", "at least 1 and below n_bits", rim as f64)?;
        for (name, depth) in [("wide", wide), ("narrow", narrow)] {
            setting(depth > 0.0 && depth.is_finite(), name, "above 0 and finite", depth)?;
        }
        Ok(Self { n_traps, n_bits, rim, wide, narrow })
    }

    /// The lowest energy there is.
    pub fn ground_energy(&self) -> f64 {
        -self.wide.max(self.narrow) * self.n_traps as f64
    }

    /// Each bit by chance.
    pub fn random_state(&self, seed: u64) -> BitState {
        let mut rng = SplitMix64::stream(seed, Purpose::Simulation, STATE, 0);
        let bits: Vec<bool> = (0..self.n_traps * self.n_bits).map(|_| rng.next_word() >> 63 == 1).collect();
        let ones = bits.chunks(self.n_bits).map(|trap| trap.iter().filter(|bit| **bit).count()).collect();
        BitState { bits, ones }
    }

    fn depth(&self, ones: usize) -> f64 {
        if ones <= self.rim {
            self.wide * (ones as f64 / self.rim as f64 - 1.0)
        } else {
            -self.narrow * (ones - self.rim) as f64 / (self.n_bits - self.rim) as f64
        }
    }

    fn after(&self, state: &BitState, bit: usize) -> (usize, usize) {
        let ones = state.ones[bit / self.n_bits];
        (ones, if state.bits[bit] { ones - 1 } else { ones + 1 })
    }
}

impl Problem for Trap {
    type State = BitState;
    type Move = usize;

    fn energy(&self, state: &BitState) -> f64 {
        state.ones.iter().map(|&ones| self.depth(ones)).sum()
    }

    fn propose(&self, state: &BitState, rng: &mut SplitMix64) -> usize {
        rng.below(state.bits.len() as u64) as usize
    }

    fn delta(&self, state: &BitState, &bit: &usize) -> f64 {
        let (before, after) = self.after(state, bit);
        self.depth(after) - self.depth(before)
    }

    fn apply(&self, state: &mut BitState, &bit: &usize) {
        let (_, after) = self.after(state, bit);
        state.ones[bit / self.n_bits] = after;
        state.bits[bit] = !state.bits[bit];
    }
}

/// Stream of [`Purpose::Simulation`].
const STATE: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_funnels() {
        let trap = Trap::new(1, 10, 7, 0.8, 1.0).unwrap();
        let energies: Vec<f64> = (0..=10).map(|ones| trap.depth(ones)).collect();
        assert_eq!((energies[0], energies[7], energies[10]), (-0.8, 0.0, -1.0));
        assert!(energies[..8].is_sorted() && energies[7..].is_sorted_by(|a, b| a > b));
        assert_eq!(trap.ground_energy(), -1.0);
    }

    #[test]
    fn moves_change_the_energy_by_their_delta() {
        let trap = Trap::new(3, 9, 6, 0.8, 1.0).unwrap();
        let mut state = trap.random_state(2);
        let mut rng = SplitMix64::stream(0, Purpose::SelfCheck, 0, 0);
        let mut energy = trap.energy(&state);
        for _ in 0..300 {
            let bit = trap.propose(&state, &mut rng);
            energy += trap.delta(&state, &bit);
            trap.apply(&mut state, &bit);
            assert!((energy - trap.energy(&state)).abs() < 1e-12);
        }
        assert!(Trap::new(1, 10, 10, 1.0, 1.0).is_err() && Trap::new(1, 10, 5, f64::NAN, 1.0).is_err());
    }
}
