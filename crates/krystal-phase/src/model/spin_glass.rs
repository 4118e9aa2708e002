//! A spin glass whose ground state is known.

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use crate::anneal::Problem;
use crate::error::{Result, setting};

/// Couplings of +1 and -1 on an `L x L` torus, planted so that the ground state is known exactly.
///
/// Every second plaquette of the lattice, like the white squares of a chessboard, is a tile; each bond belongs to one tile. A tile has all
/// four bonds satisfied in the planted state, or one violated: with an odd number of negative couplings around it no state violates
/// fewer. So the planted state minimises every tile at once, and with them the sum. Which tiles are frustrated, and where, is drawn by
/// chance, and so is the planted state.
///
/// `E = -sum J_ij s_i s_j`; a move flips one spin. Hamze, Jacob, Ochoa, Perera, Wang and Katzgraber (2018), arXiv:1711.04083.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantedSpinGlass {
    side: usize,
    /// Of each site to the right and down.
    couplings: Vec<[f64; 2]>,
    planted: Vec<i8>,
    ground_energy: f64,
}

/// Spins and the fields that act on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpinState {
    spins: Vec<i8>,
    /// `sum_j J_ij s_j`.
    fields: Vec<f64>,
}

impl SpinState {
    /// +1 or -1, row by row.
    pub fn spins(&self) -> &[i8] {
        &self.spins
    }
}

impl PlantedSpinGlass {
    /// An instance in which a tile is frustrated with probability `frustrated`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless the side is even and from 4 to 4096 and the probability within `[0, 1]`.
    pub fn new(side: usize, frustrated: f64, seed: u64) -> Result<Self> {
        setting(side.is_multiple_of(2) && (4..=4096).contains(&side), "side", "even, from 4 to 4096", side as f64)?;
        setting((0.0..=1.0).contains(&frustrated), "frustrated", "between 0 and 1", frustrated)?;
        let n = side * side;
        let mut rng = SplitMix64::stream(seed, Purpose::Simulation, INSTANCE, 0);
        let planted: Vec<i8> = (0..n).map(|_| if rng.next_word() >> 63 == 0 { 1 } else { -1 }).collect();
        let mut glass = Self { side, couplings: vec![[1.0; 2]; n], planted, ground_energy: 0.0 };
        for y in 0..side {
            for x in (0..side).filter(|x| (x + y) % 2 == 0) {
                glass.ground_energy -= 4.0;
                if rng.uniform() < frustrated {
                    glass.ground_energy += 2.0;
                    let here = y * side + x;
                    // Top, left, bottom, right of the tile whose upper left corner is here.
                    let (site, direction) =
                        [(here, 0), (here, 1), (glass.down(here), 0), (glass.right(here), 1)][rng.below(4) as usize];
                    glass.couplings[site][direction] = -1.0;
                }
            }
        }
        for site in 0..n {
            let s = glass.planted[site];
            let near = [glass.right(site), glass.down(site)];
            for (coupling, near) in glass.couplings[site].iter_mut().zip(near) {
                *coupling *= f64::from(s * glass.planted[near]);
            }
        }
        Ok(glass)
    }

    /// The lowest energy there is.
    pub fn ground_energy(&self) -> f64 {
        self.ground_energy
    }

    /// A state of that energy; there are others.
    pub fn ground_state(&self) -> SpinState {
        self.state(self.planted.clone())
    }

    /// Each spin up or down by chance.
    pub fn random_state(&self, seed: u64) -> SpinState {
        let mut rng = SplitMix64::stream(seed, Purpose::Simulation, STATE, 0);
        self.state((0..self.planted.len()).map(|_| if rng.next_word() >> 63 == 0 { 1 } else { -1 }).collect())
    }

    fn state(&self, spins: Vec<i8>) -> SpinState {
        let mut fields = vec![0.0; spins.len()];
        for (site, &[right, down]) in self.couplings.iter().enumerate() {
            for (coupling, near) in [(right, self.right(site)), (down, self.down(site))] {
                fields[site] += coupling * f64::from(spins[near]);
                fields[near] += coupling * f64::from(spins[site]);
            }
        }
        SpinState { spins, fields }
    }

    fn right(&self, site: usize) -> usize {
        if (site + 1).is_multiple_of(self.side) { site + 1 - self.side } else { site + 1 }
    }

    fn left(&self, site: usize) -> usize {
        if site.is_multiple_of(self.side) { site + self.side - 1 } else { site - 1 }
    }

    fn down(&self, site: usize) -> usize {
        if site + self.side >= self.planted.len() { site + self.side - self.planted.len() } else { site + self.side }
    }

    fn up(&self, site: usize) -> usize {
        if site < self.side { site + self.planted.len() - self.side } else { site - self.side }
    }
}

impl Problem for PlantedSpinGlass {
    type State = SpinState;
    type Move = usize;

    fn energy(&self, state: &SpinState) -> f64 {
        -0.5 * state.spins.iter().zip(&state.fields).map(|(s, field)| f64::from(*s) * field).sum::<f64>()
    }

    fn propose(&self, state: &SpinState, rng: &mut SplitMix64) -> usize {
        rng.below(state.spins.len() as u64) as usize
    }

    fn delta(&self, state: &SpinState, &site: &usize) -> f64 {
        2.0 * f64::from(state.spins[site]) * state.fields[site]
    }

    fn apply(&self, state: &mut SpinState, &site: &usize) {
        state.spins[site] *= -1;
        let change = 2.0 * f64::from(state.spins[site]);
        let (left, up) = (self.left(site), self.up(site));
        let near = [
            (self.right(site), self.couplings[site][0]),
            (self.down(site), self.couplings[site][1]),
            (left, self.couplings[left][0]),
            (up, self.couplings[up][1]),
        ];
        for (near, coupling) in near {
            state.fields[near] += change * coupling;
        }
    }
}

/// Streams of [`Purpose::Simulation`].
const INSTANCE: u64 = 5;
const STATE: u64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// All 65,536 states of 4 x 4: none is below the planted energy, and the planted state has it.
    #[test]
    fn the_planted_state_is_a_ground_state() {
        for seed in 0..6 {
            let glass = PlantedSpinGlass::new(4, 0.2 * seed as f64, seed).unwrap();
            let lowest = (0..1_u32 << 16)
                .map(|bits| {
                    let spins = (0..16).map(|i| if bits >> i & 1 == 1 { 1 } else { -1 }).collect();
                    glass.energy(&glass.state(spins))
                })
                .fold(f64::INFINITY, f64::min);
            assert_eq!(lowest, glass.ground_energy(), "{seed}");
            assert_eq!(glass.energy(&glass.ground_state()), lowest);
        }
    }

    #[test]
    fn moves_change_the_energy_by_their_delta() {
        let glass = PlantedSpinGlass::new(6, 0.7, 3).unwrap();
        let mut state = glass.random_state(1);
        let mut rng = SplitMix64::stream(0, Purpose::SelfCheck, 0, 0);
        let mut energy = glass.energy(&state);
        for _ in 0..500 {
            let site = glass.propose(&state, &mut rng);
            energy += glass.delta(&state, &site);
            glass.apply(&mut state, &site);
            assert_eq!(energy, glass.energy(&state));
        }
        assert_eq!(state, glass.state(state.spins.clone()));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(PlantedSpinGlass::new(5, 0.5, 0).is_err());
        assert!(PlantedSpinGlass::new(4, f64::NAN, 0).is_err());
    }
}
