//! Ranks that are threads of one process.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Collective, check_exchange, check_gather, check_length, check_pair, check_rank, parts, parts_mut};
use crate::error::{Error, Result};

/// One of several ranks in one process, to be moved to a thread of its own: for tests, and to try out several ranks without
/// MPI. Every message is copied twice; threads that share gradients are much cheaper than such ranks.
///
/// A rank that is dropped makes the others fail as soon as they wait for it.
///
/// ```
/// use sphere_hierarchy::collective::{Collective, InProcess};
///
/// let names = std::thread::scope(|scope| {
///     let greet = |rank: InProcess| rank.gather_bytes(format!("rank {}", rank.rank()).as_bytes());
///     let threads: Vec<_> = InProcess::group(2).into_iter().map(|rank| scope.spawn(move || greet(rank))).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>, _>>()
/// })?;
/// assert_eq!(names, [[b"rank 0", b"rank 1"], [b"rank 0", b"rank 1"]]);
/// # Ok::<(), sphere_hierarchy::Error>(())
/// ```
#[derive(Debug)]
pub struct InProcess {
    rank: usize,
    to: Vec<Sender<Message>>,
    from: Vec<Receiver<Message>>,
}

#[derive(Debug)]
enum Message {
    Values(Vec<f32>),
    Bytes(Vec<u8>),
}

impl InProcess {
    /// All ranks of a group of `size`, in order.
    #[must_use]
    pub fn group(size: usize) -> Vec<Self> {
        let mut ranks: Vec<Self> = (0..size).map(|rank| Self { rank, to: Vec::new(), from: Vec::new() }).collect();
        for sender in 0..size {
            for receiver in 0..size {
                let (to, from) = channel();
                ranks[sender].to.push(to);
                ranks[receiver].from.push(from);
            }
        }
        ranks
    }

    fn send(&self, what: &'static str, to: usize, message: Message) -> Result<()> {
        self.to[to].send(message).map_err(|_| self.failed(what, format!("rank {to} is gone")))
    }

    fn receive(&self, what: &'static str, from: usize) -> Result<Message> {
        self.from[from].recv().map_err(|_| self.failed(what, format!("rank {from} is gone")))
    }

    fn receive_values(&self, what: &'static str, from: usize, values: &mut [f32]) -> Result<()> {
        match self.receive(what, from)? {
            Message::Values(received) => {
                check_length("values from another rank", values.len(), received.len())?;
                values.copy_from_slice(&received);
                Ok(())
            }
            Message::Bytes(_) => Err(self.failed(what, format!("rank {from} sent bytes"))),
        }
    }

    fn receive_bytes(&self, what: &'static str, from: usize) -> Result<Vec<u8>> {
        match self.receive(what, from)? {
            Message::Bytes(received) => Ok(received),
            Message::Values(_) => Err(self.failed(what, format!("rank {from} sent values"))),
        }
    }

    fn failed(&self, what: &'static str, reason: String) -> Error {
        Error::Collective { rank: self.rank, size: self.size(), what, reason }
    }
}

impl Collective for InProcess {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange_segments(
        &self,
        send: &[f32],
        send_counts: &[usize],
        recv: &mut [f32],
        recv_counts: &[usize],
    ) -> Result<()> {
        check_exchange(self, (send, send_counts), (recv, recv_counts))?;
        for (to, part) in parts(send, send_counts).enumerate() {
            self.send("exchange segments", to, Message::Values(part.to_vec()))?;
        }
        parts_mut(recv, recv_counts)
            .enumerate()
            .try_for_each(|(from, part)| self.receive_values("exchange segments", from, part))
    }

    fn gather_segments(&self, mine: &[f32], all: &mut [f32], counts: &[usize]) -> Result<()> {
        check_gather(self, mine, all, counts)?;
        for to in 0..self.size() {
            self.send("gather segments", to, Message::Values(mine.to_vec()))?;
        }
        parts_mut(all, counts)
            .enumerate()
            .try_for_each(|(from, part)| self.receive_values("gather segments", from, part))
    }

    fn send_receive(&self, to: usize, send: &[f32], from: usize, recv: &mut [f32]) -> Result<()> {
        check_pair(self, to, send, from, recv)?;
        self.send("send", to, Message::Values(send.to_vec()))?;
        self.receive_values("receive", from, recv)
    }

    fn exchange_bytes(&self, parts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        check_length("parts, one for each rank", self.size(), parts.len())?;
        for (to, part) in parts.iter().enumerate() {
            self.send("exchange bytes", to, Message::Bytes(part.clone()))?;
        }
        (0..self.size()).map(|from| self.receive_bytes("exchange bytes", from)).collect()
    }

    fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        for to in 0..self.size() {
            self.send("gather bytes", to, Message::Bytes(mine.to_vec()))?;
        }
        (0..self.size()).map(|from| self.receive_bytes("gather bytes", from)).collect()
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()> {
        check_rank(self, root)?;
        if self.rank == root {
            for to in 0..self.size() {
                self.send("broadcast", to, Message::Bytes(bytes.clone()))?;
            }
        }
        *bytes = self.receive_bytes("broadcast", root)?;
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        for to in 0..self.size() {
            self.send("wait for the others", to, Message::Bytes(Vec::new()))?;
        }
        (0..self.size()).try_for_each(|from| self.receive_bytes("wait for the others", from).map(drop))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::collective::conformance;

    /// Runs `work` on every rank of a group; the results in order of rank.
    pub(crate) fn on_each<T: Send>(size: usize, work: impl Fn(InProcess) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> =
                InProcess::group(size).into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn it_keeps_the_contract() {
        for size in [1, 2, 3, 4, 7] {
            for (rank, result) in on_each(size, |rank| conformance::check(&rank)).into_iter().enumerate() {
                assert_eq!(result, Ok(()), "rank {rank} of {size}");
            }
        }
    }

    #[test]
    fn a_rank_that_is_gone_makes_the_others_fail() {
        type Call = fn(&InProcess) -> Result<()>;
        let calls: [Call; 6] = [
            |rank| rank.exchange_segments(&[0.0; 3], &[1; 3], &mut [0.0; 3], &[1; 3]),
            |rank| rank.gather_segments(&[0.0], &mut [0.0; 3], &[1; 3]),
            |rank| rank.send_receive(2, &[0.0], 2, &mut [0.0]),
            |rank| rank.gather_bytes(b"x").map(drop),
            |rank| rank.broadcast(2, &mut Vec::new()),
            InProcess::barrier,
        ];
        for call in calls {
            let results = on_each(3, |rank| if rank.rank() == 2 { Ok(()) } else { call(&rank) });
            for result in &results[..2] {
                let reason = result.as_ref().unwrap_err().to_string();
                assert!(reason.ends_with("is gone"), "{reason}");
            }
        }
    }

    #[test]
    fn ranks_that_do_not_agree_are_told_so() {
        let results = on_each(2, |rank| {
            let other = 1 - rank.rank();
            let mut received = vec![0.0; 1 + rank.rank()];
            rank.send_receive(other, &[1.0], other, &mut received)
        });
        assert!(results[0].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().to_string(), "expected 2 values from another rank, got 1");
        let results = on_each(2, |rank| match rank.rank() {
            0 => rank.barrier(),
            _ => rank.send_receive(0, &[], 0, &mut []),
        });
        assert_eq!(
            results[0].as_ref().unwrap_err().to_string(),
            "rank 0 of 2 could not wait for the others: rank 1 sent values"
        );
        assert!(results[1].is_err());
    }
}
