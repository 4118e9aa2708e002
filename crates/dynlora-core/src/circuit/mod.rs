//! Circuits: channels that act together, and whether what they do repeats (R36-R40).
//!
//! - A **[`Circuit`]** is a set of channels of one layer; its id outlives snapshots.
//! - The **[`CircuitDetector`]** finds circuits from what backward passes saw, and says which are stable: a **[`Signature`]** of
//!   the gradient, or of usage, that comes back at distant times.
//! - A **[`CircuitSource`]** watches trajectories and proposes circuits; the **[`TrajectoryCache`]** is the default.

mod channel_graph;
mod detector;
mod layer_track;
mod pattern;
mod signature;
mod source;
mod trajectory_cache;

pub use detector::{CircuitDetector, CircuitDetectorConfig, CircuitDetectorState, CircuitModule};
pub use pattern::{Circuit, CircuitNode, CircuitScores, PatternId};
pub use signature::{LAGS, SIGNATURE_BITS, Signature, autocorrelation};
pub use source::{CircuitCandidate, CircuitSource, Trajectory};
pub use trajectory_cache::{TrajectoryCache, TrajectoryCacheConfig};
