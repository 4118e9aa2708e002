//! The kinds of moves behind one type, known at compile time and serialisable.

use serde::{Deserialize, Serialize};

use super::{Adaptive, Cast, Moves, Pso, PsoConfig};
use crate::{Fitness, Method, SwarmConfig};

/// Moves of one of the kinds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Kind {
    Adaptive(Box<Adaptive>),
    Pso(Box<Pso>),
}

impl Kind {
    /// The moves that `config` asks for, in a cube of `n_dims` dimensions, after `run` restarts.
    pub(crate) fn new(config: &SwarmConfig, n_dims: usize, run: u64) -> Self {
        let adaptive = |cast| Self::Adaptive(Box::new(Adaptive::new(&config.adaptive, cast, n_dims, config.seed)));
        let pso = |pso: &PsoConfig| Self::Pso(Box::new(Pso::new(pso, n_dims, config.seed, run)));
        match config.method {
            Method::Adaptive => adaptive(Cast::All),
            Method::Covariance => adaptive(Cast::Covariance),
            Method::SuccessHistory => adaptive(Cast::SuccessHistory),
            Method::Classic => pso(&PsoConfig::from(&config.classic)),
            Method::Pso => pso(&config.pso),
        }
    }

    /// Whether what was loaded can move so many points of so many dimensions.
    pub(crate) fn is_of(&self, n: usize, n_dims: usize) -> bool {
        match self {
            Self::Adaptive(adaptive) => adaptive.is_of(n, n_dims),
            Self::Pso(pso) => pso.is_of(n, n_dims),
        }
    }

    /// Whether particles move one by one.
    pub(crate) fn is_asynchronous(&self) -> bool {
        match self {
            Self::Adaptive(_) => false,
            Self::Pso(pso) => pso.is_asynchronous(),
        }
    }

    /// How often these moves have started anew by themselves.
    pub(crate) fn restarts(&self) -> u64 {
        match self {
            Self::Adaptive(adaptive) => adaptive.restarts(),
            Self::Pso(_) => 0,
        }
    }

    /// The particle swarm, where this is one.
    pub(crate) fn pso(&mut self) -> Option<&mut Pso> {
        match self {
            Self::Adaptive(_) => None,
            Self::Pso(pso) => Some(pso),
        }
    }
}

impl Moves for Kind {
    fn ask(&mut self, points: &mut Vec<f64>) {
        match self {
            Self::Adaptive(moves) => moves.ask(points),
            Self::Pso(moves) => moves.ask(points),
        }
    }

    fn tell(&mut self, points: &[f64], fitness: &[Fitness]) {
        match self {
            Self::Adaptive(moves) => moves.tell(points, fitness),
            Self::Pso(moves) => moves.tell(points, fitness),
        }
    }

    fn has_converged(&self) -> bool {
        match self {
            Self::Adaptive(moves) => moves.has_converged(),
            Self::Pso(moves) => moves.has_converged(),
        }
    }
}
