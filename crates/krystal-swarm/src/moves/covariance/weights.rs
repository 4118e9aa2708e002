//! How much each rank counts, and how fast a covariance swarm learns.

use serde::{Deserialize, Serialize};

/// Weights and rates for `lambda` particles in `n` dimensions (Hansen 2016, arXiv:1604.00772, table 1, with the `0.25` of pycma 4 in
/// `c_mu`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Weights {
    /// One for each rank, best first; the first [`mu`](Self::mu) are positive and sum to 1, later ones are negative.
    pub(super) of_rank: Vec<f64>,
    /// How many ranks pull the centre.
    pub(super) mu: usize,
    /// How many equal ranks the positive weights are worth.
    pub(super) mu_eff: f64,
    /// Rate of the path of the step size.
    pub(super) c_sigma: f64,
    /// Damping of the step size.
    pub(super) d_sigma: f64,
    /// Rate of the path of the covariance.
    pub(super) c_c: f64,
    /// Rate of the rank-one update.
    pub(super) c_1: f64,
    /// Rate of the rank-`mu` update.
    pub(super) c_mu: f64,
    /// Expected length of a standard normal vector.
    pub(super) normal_length: f64,
}

impl Weights {
    pub(super) fn new(lambda: usize, n: usize) -> Self {
        let n = n as f64;
        let raw = |rank: usize| ((lambda as f64 + 1.0) / 2.0).ln() - (rank as f64).ln();
        let moments = |sign: f64| {
            let weights = (1..=lambda).map(raw).filter(|w| w * sign > 0.0);
            weights.fold((0.0, 0.0), |(sum, squares), w| (sum + w.abs(), squares + w * w))
        };
        let ((positive, positive2), (negative, negative2)) = (moments(1.0), moments(-1.0));
        let mu_eff = positive * positive / positive2;
        let mu_eff_negative = negative * negative / negative2;
        let c_1 = 2.0 / ((n + 1.3).powi(2) + mu_eff);
        let c_mu = (1.0 - c_1).min(2.0 * (mu_eff + 1.0 / mu_eff - 1.75) / ((n + 2.0).powi(2) + mu_eff));
        let most_negative =
            (1.0 + c_1 / c_mu).min(1.0 + 2.0 * mu_eff_negative / (mu_eff + 2.0)).min((1.0 - c_1 - c_mu) / (n * c_mu));
        let weight = |w: f64| if w >= 0.0 { w / positive } else { w * most_negative / negative };
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        Self {
            of_rank: (1..=lambda).map(raw).map(weight).collect(),
            mu: lambda / 2,
            mu_eff,
            c_sigma,
            d_sigma: 1.0 + 2.0 * (((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma,
            c_c: (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),
            c_1,
            c_mu,
            normal_length: n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n)),
        }
    }

    /// Generations between two decompositions: a tenth of the time in which the covariance changes.
    pub(super) fn generations_between_decompositions(&self, n: usize) -> u64 {
        (0.1 / ((self.c_1 + self.c_mu) * n as f64)).max(1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `mueff, c1, cmu, cc`, first and last weight of `cma.CMAEvolutionStrategy(n * [0], 1).sp`, pycma 4.5.0.
    const PYCMA: [(usize, usize, [f64; 6]); 2] = [
        (
            5,
            8,
            [
                2.60017882611318,
                0.047292304159400896,
                0.04785904960298248,
                0.45019955799280803,
                0.5299301844787792,
                -0.811149352026059,
            ],
        ),
        (
            20,
            12,
            [
                3.729458934303067,
                0.004372354435160246,
                0.009216561776274352,
                0.17176721127681213,
                0.4024029428187127,
                -0.415204422561155,
            ],
        ),
    ];

    #[test]
    fn they_are_pycmas() {
        for (n, lambda, expected) in PYCMA {
            let w = Weights::new(lambda, n);
            let weights = (w.of_rank[0], w.of_rank[lambda - 1]);
            let found = [w.mu_eff, w.c_1, w.c_mu, w.c_c, weights.0, weights.1];
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12 * expected.abs(), "n {n}: {found} {expected}");
            }
            assert!((w.of_rank[..w.mu].iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn they_are_usable_in_one_dimension_and_in_many() {
        for (n, lambda) in [(1, 4), (1, 5), (2, 6), (1000, 24), (3, 5000)] {
            let w = Weights::new(lambda, n);
            assert!(w.of_rank.iter().all(|weight| weight.is_finite()), "{w:?}");
            assert!(w.c_1 > 0.0 && w.c_mu > 0.0 && w.c_1 + w.c_mu <= 1.0, "{w:?}");
            assert!(w.generations_between_decompositions(n) >= 1);
        }
    }
}
