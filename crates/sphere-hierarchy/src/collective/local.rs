//! One rank.

use super::Collective;
use crate::error::{Error, Result};

/// The only rank of its group: what it sends comes back to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

fn copy(what: &'static str, send: &[f32], recv: &mut [f32]) -> Result<()> {
    if send.len() != recv.len() {
        return Err(Error::Counts { what, expected: recv.len(), found: send.len() });
    }
    recv.copy_from_slice(send);
    Ok(())
}

impl Collective for Local {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange_segments(&self, send: &[f32], _: &[usize], recv: &mut [f32], _: &[usize]) -> Result<()> {
        copy("segments", send, recv)
    }

    fn gather_segments(&self, mine: &[f32], all: &mut [f32], _: &[usize]) -> Result<()> {
        copy("gathered values", mine, all)
    }

    fn send_receive(&self, _: usize, send: &[f32], _: usize, recv: &mut [f32]) -> Result<()> {
        copy("values", send, recv)
    }

    fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![mine.to_vec()])
    }

    fn broadcast(&self, _: usize, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }
}
