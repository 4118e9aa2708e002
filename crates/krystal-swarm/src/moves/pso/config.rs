//! What particle swarms are made from.

use serde::{Deserialize, Serialize};

use crate::error::require;
use crate::{Bounds, Error, Topology};

/// When particles move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// All together, when all of a generation are known: the order in which trials are told does not matter.
    #[default]
    Synchronous,
    /// Each as soon as its own value is known, nobody waits: results depend on the order in which trials are told, and on nothing
    /// else. Told in the order asked, a particle has the news of those before it and not of those behind, as in the seed.
    Asynchronous,
}

/// What `r1` and `r2` are drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draws {
    /// Each coordinate of each move, as Kennedy and Eberhart do. Best where coordinates can be improved one by one; where the axes of
    /// narrow valleys lie across the coordinates, such swarms crawl.
    Coordinate,
    /// Each move: particles go along differences of good points, which lie in the valleys, whatever the axes are (the linear rule of Wilke,
    /// Kok and Groenwold 2007, doi:10.1002/nme.1914). By itself a swarm then collapses to lines, so one move of a hundred, at random,
    /// draws for each coordinate; that share is our choice.
    Move,
    /// Each move until the swarm starts anew, then each coordinate, and so on in turn.
    #[default]
    InTurn,
}

/// A particle swarm (Kennedy and Eberhart 1995, doi:10.1109/ICNN.1995.488968).
///
/// `v = w v + c1 r1 (p - x) + c2 r2 (l - x)`, `x = x + v` in the unit cube, with `p` the best point of the particle, `l` that of its best
/// informant and `r1`, `r2` uniform in `[0, 1)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PsoConfig {
    /// Particles; more explore better and converge later. Default 36.
    pub n_particles: usize,
    /// `w`. Default 0.7298, which with `c1 = c2` = 1.49618 is Clerc and Kennedy's constriction (2002, doi:10.1109/4235.985692).
    pub inertia: f64,
    /// `c1`, the pull of the particle's own best point. Default 1.49618.
    pub cognitive: f64,
    /// `c2`, the pull of the best informant's best point. Default 1.49618.
    pub social: f64,
    /// Who informs whom. Default von Neumann.
    pub topology: Topology,
    /// What walls do. Default reflect.
    pub bounds: Bounds,
    /// When particles move. Default synchronous.
    pub update: Update,
    /// What random numbers are drawn for. Default in turn.
    pub draws: Draws,
    /// Largest velocity of a coordinate, as a share of the box; none where absent, but never above 1 where walls reflect or wrap.
    /// Default 0.25.
    pub velocity_limit: Option<f64>,
    /// Velocities start as this times the difference of two uniform points. Default 0.5.
    pub initial_velocity: f64,
    /// The swarm starts anew once all best points lie within this distance of their best, coordinate by coordinate, as a share of the
    /// box. Default 1e-9; never where absent.
    pub converged_within: Option<f64>,
    /// The swarm starts anew after so many generations in a row without a better best point. Default 50; never where absent.
    pub stagnation: Option<u64>,
    /// Half of the particles start anew, keeping their memories, when their average distance in the unit cube falls below this.
    /// Costs `O(n^2 d)` a generation. Default never.
    pub reinitialize_below: Option<f64>,
}

impl Default for PsoConfig {
    fn default() -> Self {
        Self {
            n_particles: 36,
            inertia: 0.7298,
            cognitive: 1.49618,
            social: 1.49618,
            topology: Topology::VonNeumann,
            bounds: Bounds::Reflect,
            update: Update::Synchronous,
            draws: Draws::InTurn,
            velocity_limit: Some(0.25),
            initial_velocity: 0.5,
            converged_within: Some(1e-9),
            stagnation: Some(50),
            reinitialize_below: None,
        }
    }
}

impl PsoConfig {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let non_negative = |x: f64| x >= 0.0 && x.is_finite();
        require((1..=1 << 20).contains(&self.n_particles), "n_particles", "in 1..=2^20", self.n_particles as f64)?;
        require((0.0..1.0).contains(&self.inertia), "inertia", "in [0, 1)", self.inertia)?;
        let pull = "in [0, 100]";
        require((0.0..=100.0).contains(&self.cognitive), "cognitive", pull, self.cognitive)?;
        require((0.0..=100.0).contains(&self.social), "social", pull, self.social)?;
        if let Topology::Random { informed } | Topology::Dynamic { informed } = self.topology {
            require((1..=1 << 10).contains(&informed), "informed", "in 1..=1024", informed as f64)?;
        }
        let limit = self.velocity_limit.unwrap_or(1.0);
        require(limit > 0.0, "velocity_limit", "above 0", limit)?;
        require(
            non_negative(self.initial_velocity),
            "initial_velocity",
            "finite and at least 0",
            self.initial_velocity,
        )?;
        let within = self.converged_within.unwrap_or(0.0);
        require(non_negative(within), "converged_within", "finite and at least 0", within)?;
        require(self.stagnation != Some(0), "stagnation", "at least 1", 0.0)?;
        let below = self.reinitialize_below.unwrap_or(0.0);
        require(non_negative(below), "reinitialize_below", "finite and at least 0", below)
    }
}

/// The seed's particle swarm: everybody listens to everybody, and news travels at once.
///
/// `w` = 0.7, `c1 = c2` = 1.5, five particles in the unit cube, velocities start at zero. Unlike the seed's it minimises, and walls
/// reflect; [`Bounds::Clamp`] is the seed's wall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassicConfig {
    /// Particles. Default 5.
    pub n_particles: usize,
    /// `w`. Default 0.7.
    pub inertia: f64,
    /// `c1`. Default 1.5.
    pub cognitive: f64,
    /// `c2`. Default 1.5.
    pub social: f64,
    /// What walls do. Default reflect.
    pub bounds: Bounds,
    /// The first half of the particles starts anew when their average distance in the unit cube falls below this. Default 0.01; never
    /// where absent.
    pub reinitialize_below: Option<f64>,
}

impl Default for ClassicConfig {
    fn default() -> Self {
        Self {
            n_particles: 5,
            inertia: 0.7,
            cognitive: 1.5,
            social: 1.5,
            bounds: Bounds::Reflect,
            reinitialize_below: Some(0.01),
        }
    }
}

impl From<&ClassicConfig> for PsoConfig {
    fn from(classic: &ClassicConfig) -> Self {
        Self {
            n_particles: classic.n_particles,
            inertia: classic.inertia,
            cognitive: classic.cognitive,
            social: classic.social,
            topology: Topology::Star,
            bounds: classic.bounds,
            update: Update::Asynchronous,
            draws: Draws::Coordinate,
            velocity_limit: None,
            initial_velocity: 0.0,
            converged_within: None,
            stagnation: None,
            reinitialize_below: classic.reinitialize_below,
        }
    }
}
