#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bounds;
mod config;
mod diversity;
mod error;
mod fitness;
mod minimize;
mod moves;
mod space;
mod swarm;
mod topology;

pub use bounds::Bounds;
pub use config::{Method, Stop, StopRules, SwarmConfig};
pub use error::Error;
pub use fitness::Fitness;
pub use minimize::Outcome;
pub use moves::{AdaptiveConfig, ClassicConfig, Draws, PsoConfig, Update};
pub use space::{Dimension, Domain, Scale, SearchSpace, Value};
pub use swarm::{Best, Swarm, Trial};
pub use topology::Topology;
