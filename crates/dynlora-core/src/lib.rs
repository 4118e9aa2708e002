#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// Plain LoRA and its files.
mod adapter;
mod config;
mod error;
mod module;
mod pattern_map;
mod peft;
mod target_modules;

pub use adapter::LoraAdapter;
pub use config::{LoraConfig, MAX_RANK};
pub use error::Error;
pub use module::{LoraModule, ModuleShape};
pub use pattern_map::PatternMap;
pub use peft::{CONFIG_FILE, TENSORS_FILE, stored_shapes};
pub use target_modules::TargetModules;

// The hierarchy: what it is made of, and its seams.
mod backend;
mod factors;
mod gradient;
mod layer;
mod level;
mod resonance;
mod snapshot;

pub use backend::LoraBackend;
pub use factors::{FactorAddress, LayerFactors, ModuleFactors, initial_row};
pub use gradient::{ModuleActivity, StackActivity, StackGradient};
pub use layer::{
    AdvanceReport, Channel, ChannelState, LayerGradient, LayerMeasurement, LayerState, LayerStep, LoraLayer,
    UpdateReport,
};
pub use level::{AgentId, Level, UnknownLevel};
pub use resonance::{Horizontal, PlainMean, Resonance, ResonanceState, ResonanceStatistics, Signal, Vertical};
pub use snapshot::{AgentFactors, FusedFactors, Snapshot, SnapshotId};
