//! Gradients of micro-batches, summed by a [`SphereHierarchy`].

use std::convert::Infallible;

use crossbeam_queue::SegQueue;
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{Decoder, Gradients, LoraWeights, MicroBatch};
use sphere_hierarchy::{Attempt, Error, GradientWorker, LeafFailure, RunError, SphereHierarchy};

use super::{LmError, Ranks};

/// The gradient of a micro-batch, as a list of numbers.
struct Worker<'m> {
    decoder: &'m Decoder<Cpu>,
    lora: Option<&'m LoraWeights<Cpu>>,
    /// Tells which tensors there are, and what is measured.
    like: &'m Gradients<Cpu>,
    /// Where gradients were computed before: as many as were at once.
    used: SegQueue<Gradients<Cpu>>,
}

impl GradientWorker for Worker<'_> {
    type Batch = MicroBatch<Cpu>;
    type Element = f32;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        self.like.flat_len(&Cpu)
    }

    fn gradient(&self, batch: &MicroBatch<Cpu>, _: &Attempt<'_>, out: &mut [f32]) -> Result<(), Infallible> {
        let mut gradients = self.used.pop().unwrap_or_else(|| self.like.zeros_like(&Cpu));
        gradients.clear(&Cpu);
        self.decoder.backward_micro_batch(self.lora, batch, &mut gradients);
        gradients.write_flat(&Cpu, out);
        self.used.push(gradients);
        Ok(())
    }
}

/// Replaces `gradients` by the sum of those of the `batches` of all ranks; `lora` is what their forward pass had.
pub(super) fn sum_gradients(
    spheres: &mut SphereHierarchy,
    ranks: &Ranks,
    decoder: &Decoder<Cpu>,
    lora: Option<&LoraWeights<Cpu>>,
    batches: &[MicroBatch<Cpu>],
    gradients: &mut Gradients<Cpu>,
) -> Result<(), LmError> {
    let worker = Worker { decoder, lora, like: gradients, used: SegQueue::new() };
    match spheres.run_on(ranks.collective(), &worker, batches) {
        Ok(sum) => {
            gradients.read_flat(&Cpu, &sum.gradient);
            spheres.recycle(sum.gradient);
        }
        // No rank has any.
        Err(RunError::Hierarchy(Error::NoBatches)) => gradients.clear(&Cpu),
        Err(error) => return Err(refusal(error, gradients)),
    }
    Ok(())
}

/// The error of a sum, with the tensor by name where there is one.
fn refusal(error: RunError<Infallible>, gradients: &Gradients<Cpu>) -> LmError {
    match error {
        RunError::Leaf { batch, failure: LeafFailure::NonFinite { parameter }, .. } => LmError::NotFinite {
            micro_batch: batch,
            tensor: gradients.tensor_at(&Cpu, parameter).unwrap_or("what is measured").to_owned(),
        },
        error => LmError::Gradient(error),
    }
}
