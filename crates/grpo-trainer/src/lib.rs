#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod policy;
pub mod reward;

pub mod data;
pub mod rollout;

pub mod advantage;
pub mod loss;
pub mod optimizer;

pub mod config;
pub mod divergence;
pub mod evaluate;
pub mod sft;
pub mod temperature;
pub mod trainer;

pub mod error;
pub mod metrics;
pub mod observer;
pub mod run_dir;

#[cfg(feature = "lm")]
pub mod lm;
#[cfg(feature = "verify")]
pub mod verify;

mod learn;
mod resume;
mod update;

pub use config::GrpoConfig;
pub use divergence::{Divergence, reference_divergence};
pub use error::Error;
pub use evaluate::{EvaluateConfig, Evaluation, evaluate};
pub use metrics::{StepMetrics, strip_timing};
pub use observer::{Clock, Observer};
pub use policy::Policy;
pub use reward::{Reward, RewardFunction};
pub use run_dir::RunDir;
pub use sft::{Demonstration, SftConfig, SftTrainer};
pub use temperature::Temperature;
pub use trainer::{GrpoTrainer, TrainSummary};
