#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

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
