//! What every benchmark shares: its options, its report, the workloads and the host. Each binary of this package is one
//! benchmark; run it with `cargo xtask bench NAME`.

#[cfg(feature = "bbob")]
pub mod bbob;
pub mod continual;
mod gemm;
mod host;
mod ising;
mod kernel_case;
#[cfg(feature = "llm-peers")]
pub mod llm;
mod options;
mod peer;
pub mod per;
pub mod pso;
mod report;
pub mod td;
mod training_run;

pub use gemm::{View, product};
pub use host::{cpu_seconds, describe_host, peak_mib, thread_cpu_seconds};
pub use ising::spin_updates_per_second;
pub use kernel_case::{Case, Routine, kernel_cases};
pub use options::Options;
pub use peer::peer_command;
pub use report::{Report, Table, median};
pub use training_run::{ChildArguments, Measured, Size, TrainingRun};

/// The guides' examples, compiled as documentation tests here because this package is not published: a published crate could
/// not include files from outside its folder.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/guides/write_a_reward.md")]
#[doc = include_str!("../../docs/guides/write_a_policy.md")]
#[doc = include_str!("../../docs/guides/use_the_agent.md")]
#[doc = include_str!("../../docs/guides/write_a_provider.md")]
mod guides {}
