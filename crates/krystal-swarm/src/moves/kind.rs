//! The kinds of moves behind one type, known at compile time and serialisable.

use serde::{Deserialize, Serialize};

use super::{Moves, Pso, PsoConfig};
use crate::{Fitness, Method, SwarmConfig};

/// Moves of one of the kinds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Kind {
    Pso(Pso),
}

impl Kind {
    /// The moves that `config` asks for, in a cube of `n_dims` dimensions, after `run` restarts.
    pub(crate) fn new(config: &SwarmConfig, n_dims: usize, run: u64) -> Self {
        match config.method {
            Method::Classic => Self::Pso(Pso::new(&PsoConfig::from(&config.classic), n_dims, config.seed, run)),
            Method::Pso => Self::Pso(Pso::new(&config.pso, n_dims, config.seed, run)),
        }
    }

    /// Whether what was loaded can move so many points of so many dimensions.
    pub(crate) fn is_of(&self, n: usize, n_dims: usize) -> bool {
        match self {
            Self::Pso(pso) => pso.is_of(n, n_dims),
        }
    }

    /// Whether particles move one by one.
    pub(crate) fn is_asynchronous(&self) -> bool {
        match self {
            Self::Pso(pso) => pso.is_asynchronous(),
        }
    }

    /// The particle swarm, where this is one.
    pub(crate) fn pso(&mut self) -> Option<&mut Pso> {
        match self {
            Self::Pso(pso) => Some(pso),
        }
    }
}

impl Moves for Kind {
    fn ask(&mut self, points: &mut Vec<f64>) {
        match self {
            Self::Pso(moves) => moves.ask(points),
        }
    }

    fn tell(&mut self, points: &[f64], fitness: &[Fitness]) {
        match self {
            Self::Pso(moves) => moves.tell(points, fitness),
        }
    }

    fn has_converged(&self) -> bool {
        match self {
            Self::Pso(moves) => moves.has_converged(),
        }
    }
}
