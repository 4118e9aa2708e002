//! What happens to a particle that would leave the box.

use serde::{Deserialize, Serialize};

/// What happens to a coordinate that would leave the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Bounds {
    /// It bounces: position mirrored at the wall, velocity reversed.
    #[default]
    Reflect,
    /// It stops on the wall, and half of its velocity comes back (SPSO 2011). With a velocity of zero, coordinates in which all best points
    /// lie on the wall would stay there for good.
    Absorb,
    /// It comes in at the other side; distances are taken the short way round. For angles and phases.
    Periodic,
    /// Position on the wall, velocity kept, as in the seed and in argmin 0.11. **A trap**: a velocity that points outwards keeps the
    /// particle on the wall, and from about 15 dimensions on whole swarms end there. Only to reproduce such results.
    Clamp,
}
