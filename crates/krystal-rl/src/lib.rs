#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod control;
mod error;
mod features;
mod pid;
mod policy;
mod prediction;
mod real;
mod replay;
mod step_size;
mod trace;

pub use control::{ActionValues, ActionValuesConfig};
pub use error::{Error, Result};
pub use features::{Active, Features, FourierBasis, FourierConfig, Sparse, TileAxis, TileCoder, TileConfig, TileIndex};
pub use pid::{AntiWindup, DerivativeOn, Pid, PidConfig};
pub use policy::{
    Ties, entropy, epsilon_greedy, epsilon_greedy_probabilities, greedy, greedy_random_ties, sample, softmax,
};
pub use prediction::{
    NStepConfig, NStepTd, Next, Td, TdBatch, TdConfig, TdLambda, TdLambdaConfig, Tdc, TdcConfig, TrueOnlineTd,
    TrueOnlineTdConfig,
};
pub use real::Real;
pub use replay::{Batch, PrioritizedConfig, PrioritizedReplay, SumTree, Transition, UniformReplay};
pub use step_size::StepSize;
pub use trace::TraceKind;
