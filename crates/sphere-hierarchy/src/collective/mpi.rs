//! Ranks on several machines, through the system's MPI.

use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use mpi::Threading;
use mpi::collective::{CommunicatorCollectives, Root};
use mpi::datatype::{Equivalence, PartitionMut};
use mpi::environment::{Universe, initialize_with_threading};
use mpi::point_to_point::{Destination, Source};
use mpi::request::scope;
use mpi::topology::{Communicator, SimpleCommunicator};

use super::{Collective, check_exchange, check_gather, check_length, check_pair, check_rank, parts, parts_mut};
use crate::error::{Error, Result};

/// A rank of the job that `mpirun -n N program` started, best one for each machine; without `mpirun`, the only rank.
///
/// MPI moves numbers and never adds them: the order of its reductions depends on the library, on the number of ranks and on
/// the length of the message, and so would their bits.
///
/// # Failures
/// MPI ends the whole job when one of its calls fails or a rank dies (Open MPI within about a second), so that no rank waits for
/// ever; what it meets is therefore not an [`Error`] but the end of the process. To survive a death, checkpoint and start
/// again.
///
/// A rank that leaves early must be noticed too: end with [`Mpi::finish`]. One that is dropped without it, because of an error
/// or a panic, leaves MPI unfinished, which makes `mpirun` end the others as soon as this process is gone.
pub struct Mpi {
    world: SimpleCommunicator,
    universe: ManuallyDrop<Universe>,
    rank: usize,
    size: usize,
    largest_message: usize,
    /// MPI may be called by the thread that started it, and by no other.
    one_thread: PhantomData<*const ()>,
}

impl Mpi {
    /// Starts MPI, which can be done once in the life of a process.
    ///
    /// Where MPI itself finds that it cannot start, it prints why and ends the process.
    ///
    /// # Errors
    /// [`Error::Mpi`] where it was started before, or cannot be used from a program with threads.
    pub fn start() -> Result<Self> {
        let (universe, threading) = initialize_with_threading(Threading::Funneled)
            .ok_or(Error::Mpi { reason: "it was started before in this process" })?;
        if threading < Threading::Funneled {
            return Err(Error::Mpi { reason: "this MPI was built without support for programs with threads" });
        }
        let world = universe.world();
        Ok(Self {
            rank: world.rank() as usize,
            size: world.size() as usize,
            world,
            universe: ManuallyDrop::new(universe),
            largest_message: Self::LARGEST_MESSAGE,
            one_thread: PhantomData,
        })
    }

    /// Values in one message at most, 1 GiB of f32: MPI counts in 32 bits, and some of its transports in bytes.
    pub const LARGEST_MESSAGE: usize = 1 << 28;

    /// Sends what is longer than this many values (or bytes) in parts; the same on every rank. At least 1, at most
    /// [`Mpi::LARGEST_MESSAGE`], which is the default.
    pub fn set_largest_message(&mut self, largest_message: usize) {
        self.largest_message = largest_message.clamp(1, Self::LARGEST_MESSAGE);
    }

    /// Waits for the other ranks and ends MPI.
    pub fn finish(self) {
        drop(ManuallyDrop::into_inner(self.universe));
    }

    /// All messages at once, point to point: MPI's own all-to-all has displacements of 32 bits, and whether they suffice is
    /// something that a rank knows only of its own buffers.
    fn exchange<T: Equivalence + Copy>(
        &self,
        (send, send_counts): (&[T], &[usize]),
        (recv, recv_counts): (&mut [T], &[usize]),
    ) -> Result<()> {
        let mut outgoing: Vec<_> = parts(send, send_counts).enumerate().collect();
        let mut incoming: Vec<_> = parts_mut(recv, recv_counts).enumerate().collect();
        let ((_, kept), (_, own)) = (outgoing.remove(self.rank), incoming.remove(self.rank));
        own.copy_from_slice(kept);
        // Each rank begins with its right neighbour, so that not all write to the same one.
        let others = outgoing.len().max(1);
        outgoing.rotate_left(self.rank % others);
        incoming.rotate_left(self.rank % others);
        self.transfer(outgoing, incoming)
    }

    /// Sends to and receives from many ranks at the same time.
    fn transfer<T: Equivalence>(&self, outgoing: Vec<(usize, &[T])>, incoming: Vec<(usize, &mut [T])>) -> Result<()> {
        let short = scope(|scope| {
            let mut receives = Vec::new();
            for (from, part) in incoming {
                let from = self.world.process_at_rank(from as i32);
                for message in part.chunks_mut(self.largest_message) {
                    receives.push((message.len(), from.immediate_receive_into(scope, message)));
                }
            }
            let mut sends = Vec::new();
            for (to, part) in outgoing {
                let to = self.world.process_at_rank(to as i32);
                sends.extend(part.chunks(self.largest_message).map(|message| to.immediate_send(scope, message)));
            }
            // Every request must be waited for, whatever came of the others.
            let mut short = None;
            for (expected, receive) in receives {
                let found = receive.wait().count(T::equivalent_datatype()) as usize;
                if found != expected {
                    short.get_or_insert((expected, found));
                }
            }
            sends.into_iter().for_each(|send| send.wait_without_status());
            short
        });
        short.map_or(Ok(()), |(expected, found)| check_length("values from another rank", expected, found))
    }

    fn gather<T: Equivalence + Copy + Default>(&self, mine: &[T], all: &mut [T], counts: &[usize]) {
        if all.is_empty() {
            return;
        }
        if all.len() > self.largest_message {
            for (root, part) in parts_mut(all, counts).enumerate() {
                if root == self.rank {
                    part.copy_from_slice(mine);
                }
                self.broadcast_from(root, part);
            }
            return;
        }
        let starts: Vec<i32> = counts
            .iter()
            .scan(0, |next, &count| {
                let start = *next;
                *next += count as i32;
                Some(start)
            })
            .collect();
        let counts: Vec<i32> = counts.iter().map(|&count| count as i32).collect();
        // The address of an empty slice of bytes is 1, which Open MPI takes for MPI_IN_PLACE.
        let nothing = [T::default()];
        let mine = if mine.is_empty() { &nothing[..0] } else { mine };
        self.world.all_gather_varcount_into(mine, &mut PartitionMut::new(all, counts, starts));
    }

    fn broadcast_from<T: Equivalence>(&self, root: usize, values: &mut [T]) {
        let root = self.world.process_at_rank(root as i32);
        for message in values.chunks_mut(self.largest_message) {
            root.broadcast_into(message);
        }
    }
}

/// Bytes of other ranks, one after another and this long, as one for each rank.
fn split(bytes: &[u8], counts: &[usize]) -> Vec<Vec<u8>> {
    parts(bytes, counts).map(<[u8]>::to_vec).collect()
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange_segments(
        &self,
        send: &[f32],
        send_counts: &[usize],
        recv: &mut [f32],
        recv_counts: &[usize],
    ) -> Result<()> {
        check_exchange(self, (send, send_counts), (recv, recv_counts))?;
        self.exchange((send, send_counts), (recv, recv_counts))
    }

    fn gather_segments(&self, mine: &[f32], all: &mut [f32], counts: &[usize]) -> Result<()> {
        check_gather(self, mine, all, counts)?;
        self.gather(mine, all, counts);
        Ok(())
    }

    fn send_receive(&self, to: usize, send: &[f32], from: usize, recv: &mut [f32]) -> Result<()> {
        check_pair(self, to, send, from, recv)?;
        self.transfer(vec![(to, send)], vec![(from, recv)])
    }

    fn exchange_bytes(&self, parts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        check_length("parts, one for each rank", self.size, parts.len())?;
        let send_counts: Vec<usize> = parts.iter().map(Vec::len).collect();
        let mut recv_counts = vec![0_u64; self.size];
        self.world.all_to_all_into(&as_u64(&send_counts), &mut recv_counts);
        let recv_counts = as_usize(&recv_counts);
        let mut recv = vec![0; recv_counts.iter().sum()];
        self.exchange((&parts.concat(), &send_counts), (&mut recv, &recv_counts))?;
        Ok(split(&recv, &recv_counts))
    }

    fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut counts = vec![0_u64; self.size];
        self.world.all_gather_into(&(mine.len() as u64), &mut counts);
        let counts = as_usize(&counts);
        let mut all = vec![0; counts.iter().sum()];
        self.gather(mine, &mut all, &counts);
        Ok(split(&all, &counts))
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()> {
        check_rank(self, root)?;
        let mut length = bytes.len() as u64;
        self.world.process_at_rank(root as i32).broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        self.broadcast_from(root, bytes);
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        self.world.barrier();
        Ok(())
    }
}

fn as_u64(counts: &[usize]) -> Vec<u64> {
    counts.iter().map(|&count| count as u64).collect()
}

fn as_usize(counts: &[u64]) -> Vec<usize> {
    counts.iter().map(|&count| count as usize).collect()
}

impl Debug for Mpi {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mpi").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}
