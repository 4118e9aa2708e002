//! How swarms move: each kind proposes generations of points in the unit cube and learns from what they are worth.

mod adaptive;
mod cooperative;
mod covariance;
mod kind;
mod motion;
mod pso;
mod success_history;

pub use adaptive::AdaptiveConfig;
pub(crate) use adaptive::{Adaptive, Cast};
pub(crate) use kind::Kind;
pub(crate) use pso::Pso;
pub use pso::{ClassicConfig, Draws, PsoConfig, Update};

use crate::Fitness;

/// What all kinds of moves have in common.
///
/// Points are rows of `n_dims` numbers in `[0, 1]`; whoever owns the moves maps them to the user's box, always passes the same buffer
/// of points, and begins with an empty one. `ask` and `tell` alternate. Everything a later generation depends on is part of the value
/// or of that buffer, and serialisable, so that a resumed swarm goes on exactly. A value that is not finite comes as
/// [`Fitness::WORST`].
pub(crate) trait Moves {
    /// Replaces `points` by the next generation, row after row.
    fn ask(&mut self, points: &mut Vec<f64>);

    /// What the points of the last `ask` are worth, row by row. Rows may have been replaced meanwhile, by points that the user wanted
    /// to be tried: what counts is what is passed here.
    fn tell(&mut self, points: &[f64], fitness: &[Fitness]);

    /// Whether these moves have converged, or can do no more: the owner replaces them by new ones and counts a restart. Moves that
    /// start anew by themselves always say no.
    fn has_converged(&self) -> bool;
}
