//! Potts' model on a square lattice.

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, saved, setting};

/// Potts spins with `q` colours on an `L x L` torus: `E = -` the number of neighbouring pairs of equal colour.
///
/// [`heat_bath`](Self::heat_bath) draws each spin in turn from its conditional distribution. The transition, at
/// `1 / ln(1 + sqrt q)` in the limit of large lattices, is continuous for `q <= 4` and of first order above: a loop through it then
/// shows hysteresis. `q = 2` is Ising's model at twice the temperature.
///
/// All draws come from the seed and the number of sweeps so far. Baxter (1973), doi:10.1088/0022-3719/6/23/005; Wu (1982),
/// doi:10.1103/RevModPhys.54.235.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Potts {
    side: usize,
    n_colours: u8,
    seed: u64,
    n_sweeps: u64,
    spins: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    side: usize,
    n_colours: u8,
    seed: u64,
    n_sweeps: u64,
    spins: Vec<u8>,
}

impl TryFrom<Saved> for Potts {
    type Error = Error;

    fn try_from(Saved { side, n_colours, seed, n_sweeps, spins }: Saved) -> Result<Self> {
        let fresh = Self::ordered(side, n_colours, seed)?;
        saved(spins.len() == fresh.spins.len(), "spins", "side^2", spins.len() as f64)?;
        if let Some(&spin) = spins.iter().find(|spin| **spin >= n_colours) {
            saved(false, "spin", "below n_colours", f64::from(spin))?;
        }
        Ok(Self { n_sweeps, spins, ..fresh })
    }
}

impl Potts {
    /// All spins of one colour.
    ///
    /// # Errors
    /// [`Error::Setting`] unless the side is from 3 to 32,768 and there are at least 2 colours.
    pub fn ordered(side: usize, n_colours: u8, seed: u64) -> Result<Self> {
        setting((3..=32_768).contains(&side), "side", "at least 3 and at most 32768", side as f64)?;
        setting(n_colours >= 2, "n_colours", "at least 2", f64::from(n_colours))?;
        Ok(Self { side, n_colours, seed, n_sweeps: 0, spins: vec![0; side * side] })
    }

    /// Each spin of a colour by chance.
    ///
    /// # Errors
    /// As [`ordered`](Self::ordered).
    pub fn random(side: usize, n_colours: u8, seed: u64) -> Result<Self> {
        let mut lattice = Self::ordered(side, n_colours, seed)?;
        let mut rng = SplitMix64::stream(seed, Purpose::Simulation, START, 0);
        lattice.spins.iter_mut().for_each(|spin| *spin = rng.below(u64::from(n_colours)) as u8);
        Ok(lattice)
    }

    /// `1 / ln(1 + sqrt q)`.
    pub fn transition_temperature(&self) -> f64 {
        f64::from(self.n_colours).sqrt().ln_1p().recip()
    }

    /// `N = L^2`.
    pub fn n_spins(&self) -> usize {
        self.spins.len()
    }

    /// The energy, from `-2 N` to 0.
    pub fn energy(&self) -> i64 {
        let mut equal = 0;
        for site in 0..self.spins.len() {
            let [right, down, ..] = self.neighbours(site);
            equal += i64::from(self.spins[site] == self.spins[right]) + i64::from(self.spins[site] == self.spins[down]);
        }
        -equal
    }

    /// `(q n_max / N - 1) / (q - 1)` with `n_max` the spins of the most frequent colour: 1 if all are equal, 0 if none prevails.
    pub fn order(&self) -> f64 {
        let mut counts = [0_usize; 256];
        self.spins.iter().for_each(|&spin| counts[usize::from(spin)] += 1);
        let largest = counts.iter().copied().max().unwrap_or(0) as f64 / self.spins.len() as f64;
        let q = f64::from(self.n_colours);
        (q * largest - 1.0) / (q - 1.0)
    }

    /// Draws every spin, row by row, from its distribution given its neighbours.
    ///
    /// # Errors
    /// [`Error::Temperature`] for a temperature that is not above 0.
    pub fn heat_bath(&mut self, temperature: f64) -> Result<()> {
        if temperature.is_nan() || temperature <= 0.0 {
            return Err(Error::Temperature { found: temperature });
        }
        // exp(-d / T) for a colour that d fewer neighbours have than have the most frequent one.
        let weight: [f64; 5] = std::array::from_fn(|d| (-(d as f64) / temperature).exp());
        let mut rng = SplitMix64::stream(self.seed, Purpose::Simulation, SWEEP, self.n_sweeps);
        self.n_sweeps += 1;
        for site in 0..self.spins.len() {
            let near = self.neighbours(site).map(|site| self.spins[site]);
            // Each different colour among the neighbours once, with how often it occurs.
            let mut colours = [(0_u8, 0_usize); 4];
            let mut n_different = 0;
            for colour in near {
                match colours[..n_different].iter_mut().find(|(known, _)| *known == colour) {
                    Some((_, count)) => *count += 1,
                    None => {
                        colours[n_different] = (colour, 1);
                        n_different += 1;
                    }
                }
            }
            let colours = &colours[..n_different];
            let most = colours.iter().map(|&(_, count)| count).max().unwrap_or(0);
            let favoured: f64 = colours.iter().map(|&(_, count)| weight[most - count]).sum();
            let n_others = u64::from(self.n_colours) - n_different as u64;
            let total = favoured + n_others as f64 * weight[most];
            let mut draw = rng.uniform() * total;
            let chosen = colours.iter().find(|(_, count)| {
                draw -= weight[most - *count];
                draw < 0.0
            });
            self.spins[site] = match chosen {
                Some(&(colour, _)) => colour,
                // Rounding can leave something of the draw when there are no others.
                None if n_others == 0 => colours[n_different - 1].0,
                None => loop {
                    let colour = rng.below(u64::from(self.n_colours)) as u8;
                    if !near.contains(&colour) {
                        break colour;
                    }
                },
            };
        }
        Ok(())
    }

    /// Right, down, left, up.
    fn neighbours(&self, site: usize) -> [usize; 4] {
        let (side, n) = (self.side, self.spins.len());
        let column = site % side;
        [
            if column + 1 == side { site + 1 - side } else { site + 1 },
            if site + side >= n { site + side - n } else { site + side },
            if column == 0 { site + side - 1 } else { site - 1 },
            if site < side { site + n - side } else { site - side },
        ]
    }
}

/// Streams of [`Purpose::Simulation`].
const START: u64 = 3;
const SWEEP: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// `1 / ln(1 + sqrt q)` to nine places.
    #[test]
    fn transitions() {
        for (q, t) in [(2, 1.134592657), (3, 0.994972861), (4, 0.910239227), (10, 0.701231568), (20, 0.588349840)] {
            assert!((Potts::ordered(4, q, 0).unwrap().transition_temperature() - t).abs() < 1e-9);
        }
    }

    #[test]
    fn energy_and_order() {
        let mut lattice = Potts::ordered(5, 3, 0).unwrap();
        assert_eq!((lattice.energy(), lattice.order()), (-50, 1.0));
        for site in 0..25 {
            lattice.spins[site] = 2;
            assert_eq!(lattice.energy(), -46, "{site}");
            lattice.spins[site] = 0;
        }
        let hot = Potts::random(64, 4, 1).unwrap();
        assert!(hot.order() < 0.05 && (hot.energy() as f64 / 8192.0 + 0.25).abs() < 0.03);
    }

    /// One spin's conditional distribution: 200,000 draws with neighbours 0, 0, 1, 2 of q = 5, within five standard errors.
    #[test]
    fn heat_bath_draws_the_conditional_distribution() {
        let t = 0.8;
        let mut counts = [0_u32; 5];
        for sweep in 0..200_000 {
            let mut lattice = Potts::ordered(3, 5, 9).unwrap();
            lattice.n_sweeps = sweep;
            // Site 0 is drawn first; its neighbours are 1, 3, 2, 6.
            (lattice.spins[2], lattice.spins[6]) = (1, 2);
            lattice.heat_bath(t).unwrap();
            counts[usize::from(lattice.spins[0])] += 1;
        }
        let weights = [2.0, 1.0, 1.0, 0.0, 0.0_f64].map(|k| (k / t).exp());
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let p = weight / total;
            assert!((f64::from(*count) / 2e5 - p).abs() < 5.0 * (p * (1.0 - p) / 2e5).sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(Potts::ordered(2, 3, 0).is_err() && Potts::ordered(4, 1, 0).is_err());
        assert!(Potts::ordered(4, 2, 0).unwrap().heat_bath(0.0).is_err());
        let text = serde_json::to_string(&Potts::random(4, 3, 0).unwrap()).unwrap();
        assert!(serde_json::from_str::<Potts>(&text).is_ok());
        assert!(serde_json::from_str::<Potts>(&text.replace("\"n_colours\":3", "\"n_colours\":2")).is_err());
    }
}
