//! How swarms move: each kind proposes generations of points in the unit cube and learns from what they are worth.

use crate::Fitness;

/// What all kinds of moves have in common.
///
/// Points are rows of `n_dims` numbers in `[0, 1]`; whoever owns the moves maps them to the user's box. `ask` and `tell` alternate.
/// Everything a later generation depends on is part of the value and serialisable, so that a resumed swarm goes on exactly.
#[expect(dead_code, reason = "the first kinds of moves follow")]
pub(crate) trait Moves {
    /// Replaces `points` by the next generation, row after row.
    fn ask(&mut self, points: &mut Vec<f64>);

    /// What the points of the last `ask` are worth, row by row.
    fn tell(&mut self, points: &[f64], fitness: &[Fitness]);

    /// Whether these moves have converged, or can do no more: time to restart.
    fn has_converged(&self) -> bool;
}
