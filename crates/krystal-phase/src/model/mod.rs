//! Systems whose answers are known: to test a controller on, to measure with, to learn from.

mod ising;
mod potts;
mod spin_glass;
mod trap;

pub use ising::Ising;
pub use potts::Potts;
pub use spin_glass::{PlantedSpinGlass, SpinState};
pub use trap::{BitState, Trap};
