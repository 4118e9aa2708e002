#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod distributed;
mod element;
mod engine;
mod error;
mod fold;
mod hierarchy;
mod outer;
mod quantize;
mod reduce;
mod statistics;
mod tree;
mod worker;

pub mod collective;
pub mod cost_model;

pub use config::{OnFailure, SphereConfig};
pub use element::Element;
pub use error::{Error, LeafFailure, Result, RunError};
pub use hierarchy::{Reduction, SphereHierarchy};
pub use outer::{OuterConfig, OuterExchange, OuterOptimizer, OuterStep};
pub use reduce::exact::{self, ExactSum, SumError};
pub use reduce::{Accumulation, reduce, reduce_on_threads};
pub use statistics::{LevelStatistics, SphereStatistics, Statistics};
pub use tree::{ARITY, choose_depth, count_at_depth, height, leaves_at_depth, optimal_depth, peak_buffers, share};
pub use worker::{Attempt, BucketSink, Clock, GradientWorker, StreamingWorker};
