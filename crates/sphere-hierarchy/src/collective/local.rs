//! One rank.

use super::{Collective, check_exchange, check_gather, check_length, check_pair, check_rank};
use crate::error::Result;

/// The only rank of its group: what it sends comes back to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Collective for Local {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange_segments(
        &self,
        send: &[f32],
        send_counts: &[usize],
        recv: &mut [f32],
        recv_counts: &[usize],
    ) -> Result<()> {
        check_exchange(self, (send, send_counts), (recv, recv_counts))?;
        recv.copy_from_slice(send);
        Ok(())
    }

    fn gather_segments(&self, mine: &[f32], all: &mut [f32], counts: &[usize]) -> Result<()> {
        check_gather(self, mine, all, counts)?;
        all.copy_from_slice(mine);
        Ok(())
    }

    fn send_receive(&self, to: usize, send: &[f32], from: usize, recv: &mut [f32]) -> Result<()> {
        check_pair(self, to, send, from, recv)?;
        recv.copy_from_slice(send);
        Ok(())
    }

    fn exchange_bytes(&self, parts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        check_length("parts, one for each rank", self.size(), parts.len())?;
        Ok(parts.to_vec())
    }

    fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![mine.to_vec()])
    }

    fn broadcast(&self, root: usize, _: &mut Vec<u8>) -> Result<()> {
        check_rank(self, root)
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_contract() {
        crate::collective::conformance::check(&Local).unwrap();
    }
}
