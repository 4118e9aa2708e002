//! What ranks do together.

pub mod conformance;

mod doubling;
mod in_process;
mod local;
#[cfg(feature = "mpi")]
mod mpi;

pub use doubling::{SMALL_BYTES, gather, gather_by_doubling};
pub use in_process::InProcess;
#[cfg(test)]
pub(crate) use in_process::tests::on_each;
pub use local::Local;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;

use std::fmt::Debug;

use crate::error::{Error, Result};

/// Ranks that exchange numbers: the engine moves them, and every addition is ours, in an order of ours.
///
/// # Contract
/// - Every rank calls the same methods in the same order, with counts that agree: what rank `a` sends to `b` is what `b`
///   receives from `a`.
/// - No method adds or reorders numbers, so results depend neither on the engine nor on its algorithms.
/// - A rank that is gone makes the others fail (or end), never wait for ever.
/// - Counts that do not fit the buffers are refused before anything is sent, so that the group can still be used.
///
/// [`conformance::check`] holds an engine to this.
pub trait Collective: Debug {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// Ranks in all, at least 1.
    fn size(&self) -> usize;

    /// All-to-all: of `send`, which holds one part for each rank one after another (`send_counts` long), each rank gets its
    /// part; `recv` is filled with one part from each rank, `recv_counts` long.
    ///
    /// # Errors
    /// [`Error::Counts`] where counts do not fit the buffers, [`Error::Collective`] where the engine fails.
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
    /// As [`Collective::exchange_segments`]; [`Error::NoSuchRank`].
    fn send_receive(&self, to: usize, send: &[f32], from: usize, recv: &mut [f32]) -> Result<()>;

    /// All-to-all of bytes: each rank gets its part of everyone's `parts`, in order of rank; no rank need know how long a part
    /// of another will be.
    ///
    /// # Errors
    /// As [`Collective::exchange_segments`].
    fn exchange_bytes(&self, parts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>>;

    /// Every rank's bytes, in order of rank, on every rank.
    ///
    /// # Errors
    /// Where the engine fails.
    fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Replaces `bytes` on every rank by those of `root`.
    ///
    /// # Errors
    /// [`Error::NoSuchRank`], and where the engine fails.
    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()>;

    /// Returns when every rank has come here.
    ///
    /// # Errors
    /// Where the engine fails.
    fn barrier(&self) -> Result<()>;
}

fn check_length(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Counts { what, expected, found }) }
}

/// Refuses counts that are not one for each of `size` ranks or do not add up to `length`.
fn check_counts(what: &'static str, counts: &[usize], size: usize, length: usize) -> Result<()> {
    check_length("counts, one for each rank", size, counts.len())?;
    check_length(what, counts.iter().fold(0, |sum, count| sum.saturating_add(*count)), length)
}

/// What an all-to-all must refuse on its own.
fn check_exchange(
    collective: &dyn Collective,
    (send, send_counts): (&[f32], &[usize]),
    (recv, recv_counts): (&[f32], &[usize]),
) -> Result<()> {
    let (rank, size) = (collective.rank(), collective.size());
    check_counts("values to send", send_counts, size, send.len())?;
    check_counts("values to receive", recv_counts, size, recv.len())?;
    check_length("values from a rank to itself", send_counts[rank], recv_counts[rank])
}

/// What an all-gather must refuse on its own.
fn check_gather(collective: &dyn Collective, mine: &[f32], all: &[f32], counts: &[usize]) -> Result<()> {
    check_counts("values to gather", counts, collective.size(), all.len())?;
    check_length("values of this rank", counts[collective.rank()], mine.len())
}

/// What a step between two ranks must refuse on its own.
fn check_pair(collective: &dyn Collective, to: usize, send: &[f32], from: usize, recv: &[f32]) -> Result<()> {
    check_rank(collective, to.max(from))?;
    if to == from && to == collective.rank() {
        check_length("values from a rank to itself", send.len(), recv.len())?;
    }
    Ok(())
}

fn check_rank(collective: &dyn Collective, rank: usize) -> Result<()> {
    let size = collective.size();
    if rank < size { Ok(()) } else { Err(Error::NoSuchRank { rank, size }) }
}

/// `values` cut into pieces of these lengths, which [`check_counts`] has passed.
fn parts<'a, T>(mut values: &'a [T], counts: &[usize]) -> impl Iterator<Item = &'a [T]> {
    counts.iter().map(move |&count| values.split_off(..count).unwrap_or_default())
}

/// As [`parts`], to write into.
fn parts_mut<'a, T>(mut values: &'a mut [T], counts: &[usize]) -> impl Iterator<Item = &'a mut [T]> {
    counts.iter().map(move |&count| values.split_off_mut(..count).unwrap_or_default())
}
