//! What ranks do together.

mod local;

pub use local::Local;

use std::fmt::Debug;

use crate::error::Result;

/// Ranks that exchange numbers: the engine moves them, and every addition is ours, in an order of ours.
///
/// # Contract
/// - Every rank calls the same methods in the same order, with counts that agree: what rank `a` sends to `b` is what `b`
///   receives from `a`.
/// - No method adds or reorders numbers, so results depend neither on the engine nor on its algorithms.
/// - A rank that is gone makes the others fail (or end), never wait for ever.
pub trait Collective: Debug {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// Ranks in all, at least 1.
    fn size(&self) -> usize;

    /// All-to-all: of `send`, which holds one part for each rank one after another (`send_counts` long), each rank gets its
    /// part; `recv` is filled with one part from each rank, `recv_counts` long.
    ///
    /// # Errors
    /// Where the engine fails or counts do not fit the buffers.
    fn exchange_segments(
        &self,
        send: &[f32],
        send_counts: &[usize],
        recv: &mut [f32],
        recv_counts: &[usize],
    ) -> Result<()>;

    /// All-gather: `all` is filled with every rank's `mine` in order of rank, `counts` long.
    ///
    /// # Errors
    /// As [`Collective::exchange_segments`].
    fn gather_segments(&self, mine: &[f32], all: &mut [f32], counts: &[usize]) -> Result<()>;

    /// Sends to one rank and receives from another at the same time: a step of recursive doubling.
    ///
    /// # Errors
    /// As [`Collective::exchange_segments`].
    fn send_receive(&self, to: usize, send: &[f32], from: usize, recv: &mut [f32]) -> Result<()>;

    /// Every rank's bytes, in order of rank, on every rank.
    ///
    /// # Errors
    /// Where the engine fails.
    fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Replaces `bytes` on every rank by those of `root`.
    ///
    /// # Errors
    /// Where the engine fails.
    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()>;

    /// Returns when every rank has come here.
    ///
    /// # Errors
    /// Where the engine fails.
    fn barrier(&self) -> Result<()>;
}
