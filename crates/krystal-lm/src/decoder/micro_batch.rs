//! One summand of a gradient.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Decoder, Gradients, Keep, Tape, TokenBatch};
use crate::kernels::Kernels;
use crate::lora::LoraWeights;

/// A chunk of a forward pass with the derivatives of the loss: what one gradient is computed from, in one piece by one thread.
///
/// Its gradient depends on nothing else, so that micro-batches can be computed in any order and anywhere. The way back uses the
/// tape up; whoever needs the gradient again gets it from another forward pass, with the same bits.
#[derive(Debug)]
pub struct MicroBatch<K: Kernels> {
    /// Names its rows among those of the other micro-batches.
    index: u64,
    batch: Arc<TokenBatch>,
    temperature: f32,
    keep: Keep,
    tape: Mutex<Option<Tape<K>>>,
    w_log_prob: Vec<f32>,
    w_entropy: Vec<f32>,
}

impl<K: Kernels> MicroBatch<K> {
    pub(super) fn new(index: u64, tape: Tape<K>, w_log_prob: Vec<f32>, w_entropy: Vec<f32>) -> Self {
        Self {
            index,
            batch: Arc::clone(tape.batch()),
            temperature: tape.temperature(),
            keep: tape.keep(),
            tape: Mutex::new(Some(tape)),
            w_log_prob,
            w_entropy,
        }
    }

    /// Its place among the micro-batches of its step, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }
}

impl<K: Kernels> Decoder<K> {
    /// Adds the gradient of one micro-batch to `gradients`, which hold no other (what [`Gradients::with_activity`] measures
    /// draws signs by micro-batch). `lora` must be what the forward pass had.
    pub fn backward_micro_batch(
        &self,
        lora: Option<&LoraWeights<K>>,
        micro_batch: &MicroBatch<K>,
        gradients: &mut Gradients<K>,
    ) {
        let kept = micro_batch.tape.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tape = kept.unwrap_or_else(|| {
            let batch = Arc::clone(&micro_batch.batch);
            self.forward(lora, batch, micro_batch.temperature, micro_batch.keep).1
        });
        if let Some(activity) = &mut gradients.activity {
            activity.stream = micro_batch.index;
        }
        self.backward(lora, tape, &micro_batch.w_log_prob, &micro_batch.w_entropy, gradients);
    }
}
