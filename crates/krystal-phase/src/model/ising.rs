//! Ising's model on a square lattice.

use krystal_math::rng::{Purpose, SplitMix64};
use pulp::{Arch, NullaryFnOnce};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, saved, setting};

/// Ising spins on an `L x L` torus: `E = -sum s_i s_j` over the `2 L^2` pairs of neighbours, coupling and Boltzmann's constant 1.
///
/// [`metropolis`](Self::metropolis) updates one colour of the chessboard and then the other: sites of one colour are no neighbours,
/// so updating them together is updating them one after another, and loops over them are vectorised. Each site draws 32 random bits
/// of its own; acceptance probabilities are rounded to multiples of 2^-32. At infinite temperature Metropolis' rule
/// flips every spin and mixes nothing. [`wolff`](Self::wolff) flips a cluster, which near the critical temperature decorrelates far faster.
///
/// All draws come from the seed and the number of updates so far: a saved lattice continues bit for bit.
///
/// ```
/// use krystal_phase::model::Ising;
///
/// let mut lattice = Ising::random(32, 7)?;
/// (0..300).for_each(|_| lattice.metropolis(1.5).unwrap());
/// // Exactly -1.9512 a spin in the limit of large lattices, if no stripe is left from the disordered start.
/// assert!(lattice.energy() as f64 / (32.0 * 32.0) < -1.8);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
///
/// Wolff (1989), doi:10.1103/PhysRevLett.62.361.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Ising {
    side: usize,
    seed: u64,
    n_sweeps: u64,
    n_clusters: u64,
    /// By colour: row after row of `side / 2` spins, +1 or -1.
    spins: [Vec<i8>; 2],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    side: usize,
    seed: u64,
    n_sweeps: u64,
    n_clusters: u64,
    spins: [Vec<i8>; 2],
}

impl TryFrom<Saved> for Ising {
    type Error = Error;

    fn try_from(Saved { side, seed, n_sweeps, n_clusters, spins }: Saved) -> Result<Self> {
        check_side(side)?;
        for colour in &spins {
            saved(colour.len() == side * side / 2, "spins of a colour", "side^2 / 2", colour.len() as f64)?;
            if let Some(spin) = colour.iter().find(|spin| spin.unsigned_abs() != 1) {
                saved(false, "spin", "1 or -1", f64::from(*spin))?;
            }
        }
        Ok(Self { side, seed, n_sweeps, n_clusters, spins })
    }
}

impl Ising {
    /// The temperature of the transition, `2 / ln(1 + sqrt 2)` (Onsager).
    pub const CRITICAL_TEMPERATURE: f64 = 2.269_185_314_213_022;

    /// All spins up.
    ///
    /// # Errors
    /// [`Error::Setting`] unless the side is even, at least 4 and at most 32,768.
    pub fn ordered(side: usize, seed: u64) -> Result<Self> {
        check_side(side)?;
        let spins = std::array::from_fn(|_| vec![1; side * side / 2]);
        Ok(Self { side, seed, n_sweeps: 0, n_clusters: 0, spins })
    }

    /// Each spin up or down by chance.
    ///
    /// # Errors
    /// As [`ordered`](Self::ordered).
    pub fn random(side: usize, seed: u64) -> Result<Self> {
        let mut lattice = Self::ordered(side, seed)?;
        let mut rng = SplitMix64::stream(seed, Purpose::Simulation, START, 0);
        for spin in lattice.spins.iter_mut().flatten() {
            *spin = if rng.next_word() >> 63 == 0 { 1 } else { -1 };
        }
        Ok(lattice)
    }

    /// `L`.
    pub fn side(&self) -> usize {
        self.side
    }

    /// `N = L^2`.
    pub fn n_spins(&self) -> usize {
        self.side * self.side
    }

    /// The energy, from `-2 N` to `2 N`.
    pub fn energy(&self) -> i64 {
        let half = self.side / 2;
        // Every bond joins the two colours: the sum over the bonds of one colour is the sum over all.
        let mut bonds = 0_i64;
        for row in 0..self.side {
            let mine = &self.spins[0][row * half..][..half];
            for near in self.neighbour_rows(0, row) {
                bonds += mine.iter().zip(near).map(|(a, b)| i64::from(a * b)).sum::<i64>();
            }
            let near = &self.spins[1][row * half..][..half];
            bonds += (0..half).map(|j| i64::from(mine[j] * near[self.beside(0, row, j)])).sum::<i64>();
        }
        -bonds
    }

    /// The sum of the spins, from `-N` to `N`.
    pub fn magnetization(&self) -> i64 {
        self.spins.iter().flatten().map(|&spin| i64::from(spin)).sum()
    }

    /// One update of every spin: flips it with probability `min(1, exp(-dE/T))`.
    ///
    /// # Errors
    /// [`Error::Temperature`] for a temperature below 0 or NaN.
    pub fn metropolis(&mut self, temperature: f64) -> Result<()> {
        let accept = [thresholds(4.0, temperature)?, thresholds(8.0, temperature)?];
        let rng = SplitMix64::stream(self.seed, Purpose::Simulation, SWEEP, self.n_sweeps);
        self.n_sweeps += 1;
        Arch::new().dispatch(Sweep { side: self.side, spins: &mut self.spins, accept, rng });
        Ok(())
    }

    /// Flips the cluster of one site by chance; returns its size. Neighbours of equal spin belong to it with probability
    /// `1 - exp(-2/T)`.
    ///
    /// # Errors
    /// [`Error::Temperature`] for a temperature below 0 or NaN.
    pub fn wolff(&mut self, temperature: f64) -> Result<usize> {
        // A bond is left out with what remains.
        let leave = thresholds(2.0, temperature)?;
        let mut rng = SplitMix64::stream(self.seed, Purpose::Simulation, CLUSTER, self.n_clusters);
        self.n_clusters += 1;
        let half = self.side / 2;
        let site = rng.below(self.n_spins() as u64) as usize;
        let (colour, index) = (site % 2, site / 2);
        let spin = self.spins[colour][index];
        self.spins[colour][index] = -spin;
        let mut cluster = vec![(colour, index)];
        let mut size = 1;
        while let Some((colour, index)) = cluster.pop() {
            let (row, j) = (index / half, index % half);
            let up = if row == 0 { self.side - 1 } else { row - 1 };
            let down = if row + 1 == self.side { 0 } else { row + 1 };
            let neighbours = [up * half + j, down * half + j, index, row * half + self.beside(colour, row, j)];
            // Two draws of 32 bits from each word.
            let words = [rng.next_word(), rng.next_word()];
            for (i, near) in neighbours.into_iter().enumerate() {
                let draw = (words[i / 2] >> (32 * (i % 2))) & u64::from(u32::MAX);
                let other = &mut self.spins[1 - colour][near];
                if *other == spin && draw >= leave {
                    *other = -spin;
                    cluster.push((1 - colour, near));
                    size += 1;
                }
            }
        }
        Ok(size)
    }

    /// The rows of the other colour above and below, and the one beside that needs no shift.
    fn neighbour_rows(&self, colour: usize, row: usize) -> [&[i8]; 3] {
        let half = self.side / 2;
        let (up, down) = ((row + self.side - 1) % self.side, (row + 1) % self.side);
        [up, down, row].map(|row| &self.spins[1 - colour][row * half..][..half])
    }

    /// The fourth neighbour, the other one in the same row, as a place in that row.
    fn beside(&self, colour: usize, row: usize, j: usize) -> usize {
        let half = self.side / 2;
        match ((row + colour) % 2, j) {
            (0, 0) => half - 1,
            (0, j) => j - 1,
            (_, j) if j + 1 == half => 0,
            (_, j) => j + 1,
        }
    }
}

/// Streams of [`Purpose::Simulation`].
const START: u64 = 0;
const SWEEP: u64 = 1;
const CLUSTER: u64 = 2;

fn check_side(side: usize) -> Result<()> {
    let fits = side.is_multiple_of(2) && (4..=32_768).contains(&side);
    setting(fits, "side", "even, at least 4 and at most 32768", side as f64)
}

/// `exp(-cost / T)` in units of 2^-32.
fn thresholds(cost: f64, temperature: f64) -> Result<u64> {
    if temperature.is_nan() || temperature < 0.0 {
        return Err(Error::Temperature { found: temperature });
    }
    Ok(((-cost / temperature).exp() * 4_294_967_296.0).round() as u64)
}

/// A type with a `call` instead of a closure, which would not be inlined into the code for wide vectors.
struct Sweep<'a> {
    side: usize,
    spins: &'a mut [Vec<i8>; 2],
    accept: [u64; 2],
    rng: SplitMix64,
}

impl NullaryFnOnce for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { side, spins: [even, odd], accept, mut rng } = self;
        // A draw below the threshold flips; 2^32 itself, a certainty, is one draw in 2^32 short of it.
        let accept = accept.map(|threshold| threshold.min(u64::from(u32::MAX)) as u32);
        let half = side / 2;
        let mut row = Row { accept, draws: vec![0; half.next_multiple_of(2)], beside: vec![0; half] };
        row.update_colour(side, 0, even, odd, &mut rng);
        row.update_colour(side, 1, odd, even, &mut rng);
    }
}

/// What one row needs beside its spins.
struct Row {
    /// Thresholds for a loss of 4 and of 8.
    accept: [u32; 2],
    draws: Vec<u32>,
    /// The fourth neighbours.
    beside: Vec<i8>,
}

impl Row {
    #[inline(always)]
    fn update_colour(&mut self, side: usize, colour: usize, mine: &mut [i8], other: &[i8], rng: &mut SplitMix64) {
        let half = side / 2;
        for (row, mine) in mine.chunks_exact_mut(half).enumerate() {
            let (up, down) = (if row == 0 { side - 1 } else { row - 1 }, if row + 1 == side { 0 } else { row + 1 });
            let [up, down, near] = [up, down, row].map(|row| &other[row * half..][..half]);
            if (row + colour).is_multiple_of(2) {
                self.beside[0] = near[half - 1];
                self.beside[1..].copy_from_slice(&near[..half - 1]);
            } else {
                self.beside[..half - 1].copy_from_slice(&near[1..]);
                self.beside[half - 1] = near[0];
            }
            // Every word by its own place in the sequence: no draw waits for the one before.
            let start = *rng;
            for (word, pair) in self.draws.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let bits = start.after(word as u64).next_word();
                *pair = [bits as u32, (bits >> 32) as u32];
            }
            *rng = start.after(half.div_ceil(2) as u64);
            let [accept_4, accept_8] = self.accept;
            let (beside, draws) = (&self.beside[..half], &self.draws[..half]);
            for j in 0..half {
                // Half of what a flip would cost: -4, -2, 0, 2 or 4.
                let cost = mine[j] * (up[j] + down[j] + near[j] + beside[j]);
                let flip = (cost <= 0) | ((cost == 2) & (draws[j] < accept_4)) | ((cost == 4) & (draws[j] < accept_8));
                mine[j] = if flip { -mine[j] } else { mine[j] };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same lattice updated site by site from its definition.
    fn naive(lattice: &Ising, temperature: f64) -> Vec<i8> {
        let (side, half) = (lattice.side as i64, lattice.side / 2);
        let at = |x: i64, y: i64| {
            let (x, y) = (x.rem_euclid(side) as usize, y.rem_euclid(side) as usize);
            ((x + y) % 2, y * half + x / 2)
        };
        let mut spins = lattice.spins.clone();
        let mut rng = SplitMix64::stream(lattice.seed, Purpose::Simulation, SWEEP, lattice.n_sweeps);
        for colour in 0..2 {
            for y in 0..side {
                let mut word = 0;
                for (j, x) in (0..side).filter(|x| (x + y) % 2 == colour).enumerate() {
                    if j % 2 == 0 {
                        word = rng.next_word();
                    }
                    let draw = (word >> (32 * (j % 2))) as u32;
                    let (c, i) = at(x, y);
                    let field: i8 = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
                        .into_iter()
                        .map(|(x, y)| {
                            let (c, i) = at(x, y);
                            spins[c][i]
                        })
                        .sum();
                    let cost = 2.0 * f64::from(field * spins[c][i]);
                    if cost <= 0.0 || f64::from(draw) < ((-cost / temperature).exp() * 2.0_f64.powi(32)).round() {
                        spins[c][i] *= -1;
                    }
                }
            }
        }
        spins.concat()
    }

    #[test]
    fn sweeps_are_site_by_site_updates() {
        for side in [4, 6, 10, 34, 64] {
            for temperature in [0.0, 1.0, 2.3, 10.0] {
                let mut lattice = Ising::random(side, 3).unwrap();
                for _ in 0..5 {
                    let expected = naive(&lattice, temperature);
                    lattice.metropolis(temperature).unwrap();
                    assert_eq!(lattice.spins.concat(), expected, "{side} {temperature}");
                }
            }
        }
    }

    #[test]
    fn the_energy_counts_every_bond_once() {
        let mut lattice = Ising::ordered(6, 0).unwrap();
        assert_eq!((lattice.energy(), lattice.magnetization()), (-72, 36));
        for colour in 0..2 {
            for index in 0..18 {
                lattice.spins[colour][index] = -1;
                assert_eq!((lattice.energy(), lattice.magnetization()), (-64, 34), "{colour} {index}");
                lattice.spins[colour][index] = 1;
            }
        }
        lattice.spins[1].fill(-1);
        assert_eq!(lattice.energy(), 72);
    }

    #[test]
    fn a_saved_lattice_continues_and_a_broken_one_is_refused() {
        let mut lattice = Ising::random(8, 1).unwrap();
        lattice.metropolis(2.0).unwrap();
        lattice.wolff(2.0).unwrap();
        let text = serde_json::to_string(&lattice).unwrap();
        let mut loaded: Ising = serde_json::from_str(&text).unwrap();
        for twin in [&mut lattice, &mut loaded] {
            twin.metropolis(2.0).unwrap();
            twin.wolff(2.0).unwrap();
        }
        assert_eq!(loaded, lattice);
        assert!(serde_json::from_str::<Ising>(&text.replacen("[-1,", "[3,", 1).replacen("[1,", "[3,", 1)).is_err());
        assert!(serde_json::from_str::<Ising>(&text.replace("\"side\":8", "\"side\":10")).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(Ising::ordered(5, 0).is_err() && Ising::random(2, 0).is_err());
        let mut lattice = Ising::ordered(4, 0).unwrap();
        assert_eq!(lattice.metropolis(-1.0), Err(Error::Temperature { found: -1.0 }));
        assert!(lattice.wolff(f64::NAN).is_err());
    }
}
