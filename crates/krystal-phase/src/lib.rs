#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod anneal;
pub mod boltzmann;
pub mod controller;
pub mod critical;
pub mod model;
pub mod tempering;

mod error;
mod measurement;
mod phase;
mod phase_controller;
mod stall;

pub use controller::ControllerConfig;
pub use error::{Error, Result};
pub use measurement::{MeasuredEntropy, Measurement};
pub use phase::{Boundaries, ExplorationRates, Phase, PhaseConfig, PhaseDiagram};
pub use phase_controller::{Event, PhaseController, PhaseControllerConfig, Tick};
pub use stall::ReheatConfig;
