//! Targets, and what share of them was reached.

/// Targets of a problem: `10^2, 10^1.8, .., 10^-8` above the optimum.
pub const TARGETS: usize = 51;

/// COCO's groups of functions, with their first and last.
pub const GROUPS: [(&str, usize, usize); 5] = [
    ("separable", 1, 5),
    ("moderate", 6, 9),
    ("ill-conditioned", 10, 14),
    ("multimodal", 15, 19),
    ("weak structure", 20, 24),
];

/// When one run reached its targets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    /// COCO's number of the function, from 1.
    pub function: usize,
    /// COCO's number of the instance, from 1.
    pub instance: usize,
    /// Coordinates.
    pub dimension: usize,
    /// Evaluations after which each target was reached, in the order of the targets; those not reached are absent.
    pub after: Vec<u64>,
}

/// How far above the optimum target `k` is.
pub(super) fn target(k: usize) -> f64 {
    10_f64.powf(2.0 - 0.2 * k as f64)
}

/// The share of the targets of functions `first..=last` that were reached within `budget` evaluations for each coordinate.
pub fn share(runs: &[Reached], budget: u64, (first, last): (usize, usize)) -> f64 {
    let runs = runs.iter().filter(|run| (first..=last).contains(&run.function));
    let (reached, all) = runs.fold((0, 0), |(reached, all), run| {
        let within = run.after.iter().filter(|after| **after <= budget * run.dimension as u64).count();
        (reached + within, all + TARGETS)
    });
    reached as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_span_ten_decades() {
        assert_eq!(target(0), 100.0);
        assert!((target(TARGETS - 1) / 1e-8 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn shares_count_targets_within_the_budget() {
        let run = |function, after: &[u64]| Reached { function, instance: 1, dimension: 2, after: after.to_vec() };
        let runs = [run(1, &[1, 20, 21]), run(2, &[])];
        assert_eq!(share(&runs, 10, (1, 1)), 2.0 / 51.0);
        assert_eq!(share(&runs, 10, (1, 24)), 1.0 / 51.0);
        assert_eq!(share(&runs, 1000, (1, 24)), 3.0 / 102.0);
    }
}
