//! Simulated annealing: moves that worsen are accepted with probability `exp(-dE/T)`, under a temperature that a schedule decides.

mod annealer;
mod initial;
mod reheating;
mod schedule;

use krystal_math::rng::SplitMix64;

pub use annealer::{AnnealConfig, Annealer, Progress};
pub use initial::{InitialTemperature, initial_temperature};
pub use reheating::{Reheating, ReheatingConfig};
pub use schedule::{Block, Geometric, Schedule};

/// A landscape: states, the moves between them, and energies to be minimised.
///
/// Implementers keep the promise that `energy` after `apply` is `energy` before plus `delta`, within rounding, and that what
/// `propose` draws depends on the state and the generator alone; a proposal and its reverse should be equally likely, or the
/// distribution that is sampled is not Boltzmann's. At most 65,535 numbers may be drawn for one proposal. Energies may not be
/// NaN; a `delta` of `inf` is a move that is not allowed. Whatever makes `delta` cheap, such as fields, belongs into the state.
///
/// ```
/// use krystal_math::rng::SplitMix64;
/// use krystal_phase::anneal::Problem;
///
/// /// The order of cities on a closed tour, changed by reversing a part of it.
/// struct Tour {
///     cities: Vec<[f64; 2]>,
/// }
///
/// impl Tour {
///     fn length(&self, a: usize, b: usize) -> f64 {
///         let ([x, y], [u, v]) = (self.cities[a], self.cities[b]);
///         (x - u).hypot(y - v)
///     }
/// }
///
/// impl Problem for Tour {
///     type State = Vec<usize>;
///     type Move = (usize, usize);
///
///     fn energy(&self, order: &Vec<usize>) -> f64 {
///         (0..order.len()).map(|i| self.length(order[i], order[(i + 1) % order.len()])).sum()
///     }
///
///     fn propose(&self, order: &Vec<usize>, rng: &mut SplitMix64) -> (usize, usize) {
///         let n = order.len() as u64;
///         let (a, b) = (rng.below(n) as usize, rng.below(n) as usize);
///         (a.min(b), a.max(b))
///     }
///
///     fn delta(&self, order: &Vec<usize>, &(a, b): &(usize, usize)) -> f64 {
///         let n = order.len();
///         let (before, after) = ((a + n - 1) % n, (b + 1) % n);
///         if before == b || after == a {
///             return 0.0;
///         }
///         self.length(order[before], order[b]) + self.length(order[a], order[after])
///             - self.length(order[before], order[a])
///             - self.length(order[b], order[after])
///     }
///
///     fn apply(&self, order: &mut Vec<usize>, &(a, b): &(usize, usize)) {
///         order[a..=b].reverse();
///     }
/// }
///
/// use krystal_phase::anneal::{AnnealConfig, Annealer, Geometric, initial_temperature};
///
/// let angle = |i: usize| (7 * i % 30) as f64 / 30.0 * std::f64::consts::TAU;
/// let tour = Tour { cities: (0..30).map(|i| [angle(i).cos(), angle(i).sin()]).collect() };
/// let start: Vec<usize> = (0..30).collect();
/// let hot = initial_temperature(&tour, &start, 0.8, 1000, 1)?.temperature;
/// let schedule = Geometric::new(hot, hot / 300.0, 500)?;
/// let mut annealer = Annealer::new(&tour, start, schedule, AnnealConfig { block: 100, seed: 1 })?;
/// annealer.advance(50_000)?;
/// // The shortest tour goes around the circle: 60 sin(pi / 30).
/// assert!((annealer.best_energy() - 6.271708).abs() < 1e-6);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
pub trait Problem {
    /// A point of the landscape.
    type State: Clone;
    /// A step to another.
    type Move;

    /// The energy of a state.
    fn energy(&self, state: &Self::State) -> f64;

    /// A move by chance.
    fn propose(&self, state: &Self::State, rng: &mut SplitMix64) -> Self::Move;

    /// What a move would add to the energy.
    fn delta(&self, state: &Self::State, by: &Self::Move) -> f64;

    /// Makes a move.
    fn apply(&self, state: &mut Self::State, by: &Self::Move);
}
