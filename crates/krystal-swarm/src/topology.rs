//! Who listens to whom.

use krystal_math::rng::SplitMix64;
use serde::{Deserialize, Serialize};

/// Whom each particle listens to; everybody listens to itself too.
///
/// A smaller neighbourhood spreads news more slowly: better on many optima, slower on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Topology {
    /// Everybody listens to everybody ("gbest").
    Star,
    /// Two neighbours on a ring ("lbest").
    Ring,
    /// Four neighbours on a torus, as nearly square as the number of particles allows; a ring for primes.
    VonNeumann,
    /// Each particle informs so many others, drawn once with repetition.
    Random {
        /// How many.
        informed: usize,
    },
    /// As `Random`, drawn again after every generation that did not improve on the best (SPSO: Clerc 2012, hal-00764996).
    Dynamic {
        /// How many.
        informed: usize,
    },
}

impl Topology {
    /// The informants of each of `n` particles, in rising order, itself among them; `None` for a star.
    pub(crate) fn informants(self, n: usize, rng: &mut SplitMix64) -> Option<Informants> {
        let lists: Vec<Vec<usize>> = match self {
            Self::Star => return None,
            Self::Ring => (0..n).map(|i| vec![(i + n - 1) % n, i, (i + 1) % n]).collect(),
            Self::VonNeumann => {
                let rows = (1..=n.isqrt()).rev().find(|rows| n.is_multiple_of(*rows)).unwrap_or(1);
                let columns = n / rows;
                let at = |row: usize, column: usize| row % rows * columns + column % columns;
                (0..n)
                    .map(|i| {
                        let (row, column) = (i / columns, i % columns);
                        let (up, left) = (at(row + rows - 1, column), at(row, column + columns - 1));
                        vec![up, left, i, at(row, column + 1), at(row + 1, column)]
                    })
                    .collect()
            }
            Self::Random { informed } | Self::Dynamic { informed } => {
                let mut lists: Vec<_> = (0..n).map(|i| vec![i]).collect();
                for i in 0..n {
                    (0..informed).for_each(|_| lists[rng.below(n as u64) as usize].push(i));
                }
                lists
            }
        };
        Some(Informants::new(lists))
    }
}

/// Lists of informants, one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Informants {
    /// Where each list ends.
    ends: Vec<u32>,
    particles: Vec<u32>,
}

impl Informants {
    fn new(lists: Vec<Vec<usize>>) -> Self {
        let (mut ends, mut particles) = (Vec::new(), Vec::new());
        for mut list in lists {
            list.sort_unstable();
            list.dedup();
            particles.extend(list.into_iter().map(|i| i as u32));
            ends.push(particles.len() as u32);
        }
        Self { ends, particles }
    }

    /// Who informs particle `i`.
    #[inline]
    pub(crate) fn of(&self, i: usize) -> impl Iterator<Item = usize> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        self.particles[start..self.ends[i] as usize].iter().map(|&i| i as usize)
    }

    /// Whether there are lists for `n` particles and they name no other.
    pub(crate) fn are_of(&self, n: usize) -> bool {
        let ends = self.ends.len() == n && self.ends.is_sorted();
        ends && self.ends.last().is_none_or(|&end| end as usize == self.particles.len())
            && self.particles.iter().all(|&i| (i as usize) < n)
    }
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::Purpose;

    use super::*;

    fn lists(topology: Topology, n: usize) -> Vec<Vec<usize>> {
        let mut rng = SplitMix64::stream(1, Purpose::Swarm, 2, 0);
        let informants = topology.informants(n, &mut rng).unwrap();
        assert!(informants.are_of(n) && !informants.are_of(n + 1));
        (0..n).map(|i| informants.of(i).collect()).collect()
    }

    #[test]
    fn neighbours_on_the_ring() {
        let five = [vec![0, 1, 4], vec![0, 1, 2], vec![1, 2, 3], vec![2, 3, 4], vec![0, 3, 4]];
        assert_eq!(lists(Topology::Ring, 5), five);
        assert_eq!(lists(Topology::Ring, 1), [[0]]);
        assert_eq!(lists(Topology::Ring, 2), [[0, 1], [0, 1]]);
    }

    #[test]
    fn neighbours_on_the_torus() {
        // 0 1 2 3
        // 4 5 6 7
        // 8 9 a b
        let twelve = lists(Topology::VonNeumann, 12);
        assert_eq!(twelve[0], [0, 1, 3, 4, 8]);
        assert_eq!(twelve[5], [1, 4, 5, 6, 9]);
        assert_eq!(twelve[11], [3, 7, 8, 10, 11]);
        assert!(lists(Topology::VonNeumann, 36).iter().all(|list| list.len() == 5));
        assert_eq!(lists(Topology::VonNeumann, 7), lists(Topology::Ring, 7), "a prime is a ring");
        assert_eq!(lists(Topology::VonNeumann, 4)[0], [0, 1, 2]);
    }

    #[test]
    fn a_random_particle_informs_itself_and_at_most_as_many_as_it_should() {
        for topology in [Topology::Random { informed: 3 }, Topology::Dynamic { informed: 3 }] {
            let lists = lists(topology, 40);
            for i in 0..40 {
                assert!(lists[i].contains(&i));
                let informs = lists.iter().filter(|list| list.contains(&i)).count();
                assert!((1..=4).contains(&informs), "{i} informs {informs}");
            }
            // Of 120 draws among 40 some hit the same particle, so the lists differ in length: a fixed pattern would not.
            assert!(lists.iter().any(|list| list.len() != lists[0].len()));
        }
    }

    #[test]
    fn everybody_is_heard_in_the_end() {
        for topology in [Topology::Ring, Topology::VonNeumann] {
            let lists = lists(topology, 30);
            let mut knows = vec![false; 30];
            knows[17] = true;
            for _ in 0..15 {
                knows = lists.iter().map(|list| list.iter().any(|&i| knows[i])).collect();
            }
            assert!(knows.iter().all(|knows| *knows));
        }
    }
}
