//! Memory that outlives a step: asking the system for a gradient's pages anew costs more than adding the gradient.

use crossbeam_queue::SegQueue;

/// Buffers of an earlier step.
#[derive(Debug, Default)]
pub(crate) struct Spares(SegQueue<Vec<f32>>);

impl Spares {
    /// A buffer of `len` numbers, which hold rubbish, if there is one that is not much longer. Those of another length are let go:
    /// a worker of another size has come.
    pub(crate) fn take(&self, len: usize) -> Option<Vec<f32>> {
        while let Some(mut spare) = self.0.pop() {
            if (len..=2 * len).contains(&spare.capacity()) {
                spare.resize(len, 0.0);
                return Some(spare);
            }
        }
        None
    }

    pub(crate) fn keep(&self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.0.push(buffer);
        }
    }
}
