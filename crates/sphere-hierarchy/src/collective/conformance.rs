//! What every engine must do, for those who write one.

use std::fmt::Debug;

use super::Collective;
use crate::error::{Error, Result};

/// Holds an engine to the contract of [`Collective`]: every rank of a group calls this, with groups of different sizes.
///
/// Checked are values bit for bit, unequal and empty parts, order by rank, messages of more than a megabyte, broadcasts from
/// each rank, that barriers and messages keep their order, and that wrong counts are refused on the spot without harm to later
/// calls. Not checked is what happens when a rank dies.
///
/// # Errors
/// What this rank found to be wrong. The other ranks may wait for it then: end the group.
pub fn check(collective: &dyn Collective) -> Result<(), String> {
    let group = Group { collective, rank: collective.rank(), size: collective.size() };
    if group.rank >= group.size {
        return Err(format!("rank {} in a group of {}", group.rank, group.size));
    }
    // Twice, as what the first round leaves behind would harm the second.
    for round in 0..2 {
        for scale in [1, LARGE] {
            group.exchange(round, scale)?;
            group.gather(round, scale)?;
            group.ring(round, scale)?;
        }
        group.empty()?;
        group.bytes()?;
        group.broadcasts()?;
        group.wrong_counts()?;
    }
    group.barrier()
}

/// Makes the parts of an exchange megabytes long, beyond what engines send without asking.
const LARGE: usize = 60_000;

struct Group<'a> {
    collective: &'a dyn Collective,
    rank: usize,
    size: usize,
}

/// As many values as rank `from` has for rank `to`: between 0 and 4 times `scale`.
fn count(from: usize, to: usize, scale: usize) -> usize {
    (3 * from + to + 1) % 5 * scale
}

/// Bits that tell where they come from, some of them not numbers, whose payload must survive too.
fn values(round: usize, from: usize, to: usize, count: usize) -> Vec<f32> {
    let seed = (round * 1_000_003 + from * 1_009 + to) as u32;
    (0..count as u32).map(|index| f32::from_bits((seed << 20 ^ index).wrapping_mul(0x9E37_79B1))).collect()
}

fn bytes(from: usize, to: usize) -> Vec<u8> {
    (0..(5 * from + 3 * to + 1) % 7 * 40_000).map(|index| (index * 31 + from * 7 + to) as u8).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn same(what: &str, expected: &[f32], found: &[f32]) -> Result<(), String> {
    if bits(expected) == bits(found) { Ok(()) } else { Err(format!("{what}: other values than were sent")) }
}

fn done<T>(what: &str, result: Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn refused<T: Debug>(what: &str, result: Result<T>) -> Result<(), String> {
    match result {
        Err(Error::Counts { .. } | Error::NoSuchRank { .. }) => Ok(()),
        other => Err(format!("{what} should be refused, the answer was {other:?}")),
    }
}

impl Group<'_> {
    fn exchange(&self, round: usize, scale: usize) -> Result<(), String> {
        let send_counts: Vec<_> = (0..self.size).map(|to| count(self.rank, to, scale)).collect();
        let recv_counts: Vec<_> = (0..self.size).map(|from| count(from, self.rank, scale)).collect();
        let send: Vec<_> = (0..self.size).flat_map(|to| values(round, self.rank, to, send_counts[to])).collect();
        let expected: Vec<_> =
            (0..self.size).flat_map(|from| values(round, from, self.rank, recv_counts[from])).collect();
        let mut recv = vec![0.0; expected.len()];
        done("exchange", self.collective.exchange_segments(&send, &send_counts, &mut recv, &recv_counts))?;
        same("exchange", &expected, &recv)
    }

    fn gather(&self, round: usize, scale: usize) -> Result<(), String> {
        let counts: Vec<_> = (0..self.size).map(|from| count(from, 1, scale)).collect();
        let expected: Vec<_> = (0..self.size).flat_map(|from| values(round, from, 0, counts[from])).collect();
        let mut all = vec![0.0; expected.len()];
        let mine = values(round, self.rank, 0, counts[self.rank]);
        done("gather", self.collective.gather_segments(&mine, &mut all, &counts))?;
        same("gather", &expected, &all)
    }

    /// To every distance around the ring, 0 and both ways included, with lengths that differ by direction.
    fn ring(&self, round: usize, scale: usize) -> Result<(), String> {
        for distance in 0..self.size {
            let to = (self.rank + distance) % self.size;
            let from = (self.rank + self.size - distance) % self.size;
            let send = values(round, self.rank, to, count(self.rank, to, scale));
            let mut recv = vec![0.0; count(from, self.rank, scale)];
            done("send and receive", self.collective.send_receive(to, &send, from, &mut recv))?;
            same("send and receive", &values(round, from, self.rank, recv.len()), &recv)?;
        }
        Ok(())
    }

    fn empty(&self) -> Result<(), String> {
        let none = vec![0; self.size];
        done("an empty exchange", self.collective.exchange_segments(&[], &none, &mut [], &none))?;
        done("an empty gather", self.collective.gather_segments(&[], &mut [], &none))?;
        done("sending nothing", self.collective.send_receive(self.rank, &[], self.rank, &mut []))
    }

    fn bytes(&self) -> Result<(), String> {
        let parts: Vec<_> = (0..self.size).map(|to| bytes(self.rank, to)).collect();
        let expected: Vec<_> = (0..self.size).map(|from| bytes(from, self.rank)).collect();
        if done("exchange of bytes", self.collective.exchange_bytes(&parts))? != expected {
            return Err("exchange of bytes: other bytes than were sent".to_owned());
        }
        let expected: Vec<_> = (0..self.size).map(|from| bytes(from, 0)).collect();
        if done("gather of bytes", self.collective.gather_bytes(&bytes(self.rank, 0)))? != expected {
            return Err("gather of bytes: other bytes than were sent".to_owned());
        }
        let nothing = done("gather of no bytes", self.collective.gather_bytes(&[]))?;
        if nothing != vec![Vec::<u8>::new(); self.size] {
            return Err("gather of no bytes: something came".to_owned());
        }
        Ok(())
    }

    fn broadcasts(&self) -> Result<(), String> {
        for root in 0..self.size {
            let mut found = bytes(self.rank, 1);
            done("broadcast", self.collective.broadcast(root, &mut found))?;
            if found != bytes(root, 1) {
                return Err(format!("broadcast from {root}: other bytes than it sent"));
            }
        }
        Ok(())
    }

    fn wrong_counts(&self) -> Result<(), String> {
        let (engine, size) = (self.collective, self.size);
        let (ones, mut recv) = (vec![1; size], vec![0.0; size]);
        let too_many = vec![1; size + 1];
        let too_large = vec![usize::MAX; size];
        for (what, counts, length) in [
            ("an exchange with a count too many", &too_many, size + 1),
            ("an exchange with too few values", &ones, size - 1),
            ("an exchange with too many values", &ones, size + 1),
            ("an exchange with counts beyond measure", &too_large, size),
        ] {
            let wrong = vec![0.0; length];
            refused(what, engine.exchange_segments(&wrong, counts, &mut recv, &ones))?;
            refused(what, engine.exchange_segments(&recv.clone(), &ones, &mut wrong.clone(), counts))?;
        }
        refused("a gather of too little", engine.gather_segments(&[], &mut recv, &ones))?;
        refused("a gather of too much", engine.gather_segments(&[0.0; 2], &mut recv, &ones))?;
        refused("a gather into too much", engine.gather_segments(&[0.0], &mut vec![0.0; size + 1], &ones))?;
        refused("a gather without counts", engine.gather_segments(&[0.0], &mut recv, &[]))?;
        refused("sending to a rank that is not there", engine.send_receive(size, &[], 0, &mut []))?;
        refused("receiving from a rank that is not there", engine.send_receive(0, &[], size, &mut []))?;
        refused("sending itself less than is received", engine.send_receive(self.rank, &[], self.rank, &mut [0.0]))?;
        refused("an exchange of too many parts", engine.exchange_bytes(&vec![Vec::new(); size + 1]))?;
        refused("a broadcast from a rank that is not there", engine.broadcast(size, &mut Vec::new()))
    }

    /// A barrier must not be taken for a message, nor the other way round.
    fn barrier(&self) -> Result<(), String> {
        for round in 0..10 {
            done("barrier", self.collective.barrier())?;
            self.ring(round, 1)?;
        }
        done("barrier", self.collective.barrier())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Local;

    /// One rank that gets one thing wrong.
    #[derive(Debug)]
    enum Faulty {
        Adds,
        Forgets,
        Trusts,
    }

    impl Collective for Faulty {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            1
        }

        fn exchange_segments(&self, send: &[f32], _: &[usize], recv: &mut [f32], counts: &[usize]) -> Result<()> {
            match self {
                // Not the same bits: -0 becomes 0.
                Self::Adds => {
                    Local.exchange_segments(send, counts, recv, counts)?;
                    recv.iter_mut().for_each(|value| *value += 0.0);
                    Ok(())
                }
                Self::Forgets => Ok(()),
                Self::Trusts => Local.exchange_segments(send, &[send.len()], recv, &[recv.len()]),
            }
        }

        fn gather_segments(&self, mine: &[f32], all: &mut [f32], counts: &[usize]) -> Result<()> {
            Local.gather_segments(mine, all, counts)
        }

        fn send_receive(&self, to: usize, send: &[f32], from: usize, recv: &mut [f32]) -> Result<()> {
            Local.send_receive(to, send, from, recv)
        }

        fn exchange_bytes(&self, parts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
            Local.exchange_bytes(parts)
        }

        fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
            Local.gather_bytes(mine)
        }

        fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()> {
            Local.broadcast(root, bytes)
        }

        fn barrier(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_engine_that_is_wrong_is_found() {
        for (engine, found) in [
            (Faulty::Adds, "exchange: other values"),
            (Faulty::Forgets, "exchange: other values"),
            (Faulty::Trusts, "should be refused"),
        ] {
            let said = check(&engine).unwrap_err();
            assert!(said.contains(found), "{engine:?}: {said}");
        }
    }
}
