//! Migration: circuits move from a layer to the next slower one (R41-R47).
//!
//! - A **[`MigrationRequest`]** asks for a circuit to move. Its **pressure** (`autocorrelation * usage rank * (vertical + 1) / 2`)
//!   and the time it has waited order the queue of its **[`MigrationChannel`]**; a CONFLICT vetoes it, a FAST_TRACK sends it
//!   ahead and further.
//! - A **[`TokenBucket`]** meters each channel. Circuits move channel by channel and each channel by fractions, so that one
//!   that is larger than a tick's bandwidth arrives too, and a tick always ends.
//! - A **[`Handoff`]** moves one channel without changing the sum: both layers hold the same row of `A`, and the row of `B` is
//!   divided so that the parts add up exactly.
//! - A slow layer that is full is **compressed**: what is smallest in it goes back to the faster layer, or the channel is
//!   exchanged for it.
//! - From private to shared it takes several agents (**[`ShareGate`]**): the mean of their circuits moves, and each keeps what
//!   differs from it.
//! - The **[`MigrationLog`]** says why each thing moved and what it cost.

mod channel;
mod compression;
mod config;
mod consensus;
mod coordinator;
mod log;
#[cfg(test)]
mod plain_layers;
mod scheduler;
mod seed_queue;
mod sharing;
#[cfg(test)]
mod tests;
mod token_bucket;
mod transfer;

pub use channel::{ChannelStatistics, MigrationChannel, MigrationRequest, MigrationSignal, PressureParts};
pub use compression::RoomKind;
pub use config::{Alignment, MigrationConfig, MigrationMode, SharingConfig, SharingMode, WhenFull};
pub use consensus::{OpenGate, ShareGate, SharedChannel, SharedProposal};
pub use coordinator::{Enqueued, MigrationCoordinator, MigrationState, MigrationTick};
pub use log::{MigrationAction, MigrationEvent, MigrationLog, MigrationReason};
pub use token_bucket::{EMERGENCY_SPACING, TokenBucket};
pub use transfer::{Handoff, LayerAccess, LayerAddress, split};
