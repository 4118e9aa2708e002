#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod agent;
mod control;
mod elementary;
mod error;
mod features;
mod pid;
mod policy;
mod prediction;
mod real;
mod replay;
mod step_size;
mod trace;

pub use agent::{
    Agent, AgentConfig, Decision, Factors, MemoryConfig, Method, Observable, Observation, Observe, Policy,
    SetPointConfig, Tick, TunerConfig,
};
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

/// Implements [`Observe`](trait@Observe) for a struct with named fields, each of which is [`Observable`].
///
/// `#[observe(skip)]` leaves a field out; `#[observe(rename = "name")]` gives it another name.
#[cfg(feature = "derive")]
pub use krystal_rl_derive::Observe;
