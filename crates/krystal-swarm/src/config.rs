//! What a swarm is made from.

use serde::{Deserialize, Serialize};

use crate::error::require;
use crate::{AdaptiveConfig, ClassicConfig, Error, PsoConfig};

/// How the swarm moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// The seed's particle swarm: small, everybody listens to everybody.
    Classic,
    /// The best plain particle swarm: von Neumann neighbourhoods, reflecting walls, restarts.
    Pso,
    /// Success-history swarms with budgets that double: coefficients that succeeded come again.
    SuccessHistory,
    /// Covariance swarms with restarts: steps that succeeded come again.
    Covariance,
    /// The best of all: cooperative, covariance and success-history swarms.
    #[default]
    Adaptive,
}

/// What a swarm is made from; checked when it is built. Tables of methods that are not chosen are not used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwarmConfig {
    /// Everything random follows from it.
    pub seed: u64,
    /// How the swarm moves.
    pub method: Method,
    /// When to stop.
    pub stop: StopRules,
    /// For [`Method::Adaptive`], [`Method::Covariance`] and [`Method::SuccessHistory`].
    pub adaptive: AdaptiveConfig,
    /// For [`Method::Classic`].
    pub classic: ClassicConfig,
    /// For [`Method::Pso`].
    pub pso: PsoConfig,
}

impl SwarmConfig {
    /// The defaults of a method.
    pub fn of(method: Method) -> Self {
        Self { method, ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        self.stop.validate()?;
        match self.method {
            Method::Classic => PsoConfig::from(&self.classic).validate(),
            Method::Pso => self.pso.validate(),
            Method::SuccessHistory | Method::Covariance | Method::Adaptive => self.adaptive.validate(),
        }
    }
}

/// When to stop: at the first rule that holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopRules {
    /// After so many evaluations. Where absent, 10,000 for each coordinate of the space, the customary budget of the BBOB benchmark.
    pub evaluations: Option<u64>,
    /// When a feasible point is at most worth this.
    pub target: Option<f64>,
    /// After so many evaluations in a row without a better best.
    pub no_improvement: Option<u64>,
    /// When, after a generation, the average distance of particles in the unit cube is below this. Costs `O(n^2 d)` a generation.
    pub diversity: Option<f64>,
    /// After so many generations; where particles move one by one, a generation is as many evaluations as there are particles.
    pub generations: Option<u64>,
}

impl StopRules {
    /// After so many evaluations.
    pub fn after(evaluations: u64) -> Self {
        Self { evaluations: Some(evaluations), ..Self::default() }
    }

    /// Evaluations at most, in a space of so many coordinates.
    pub(crate) fn most_evaluations(&self, n_coordinates: usize) -> u64 {
        self.evaluations.unwrap_or(10_000 * n_coordinates as u64)
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        require(self.evaluations != Some(0), "stop.evaluations", "at least 1", 0.0)?;
        let target = self.target.unwrap_or(0.0);
        require(!target.is_nan(), "stop.target", "a number", target)?;
        require(self.no_improvement != Some(0), "stop.no_improvement", "at least 1", 0.0)?;
        let diversity = self.diversity.unwrap_or(0.0);
        require(diversity >= 0.0, "stop.diversity", "at least 0", diversity)?;
        require(self.generations != Some(0), "stop.generations", "at least 1", 0.0)
    }
}

/// Which rule stopped a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stop {
    /// [`StopRules::evaluations`].
    Evaluations,
    /// [`StopRules::target`].
    Target,
    /// [`StopRules::no_improvement`].
    NoImprovement,
    /// [`StopRules::diversity`].
    Diversity,
    /// [`StopRules::generations`].
    Generations,
    /// The observer said so.
    Observer,
}
