//! Elastic weight consolidation, online (Kirkpatrick et al. 2017, arXiv:1612.00796; Schwarz et al. 2018, arXiv:1805.06370).
//!
//! At the end of a phase the diagonal of the Fisher information of the factors is estimated from the phase's examples and added
//! to the decayed sum of those before; until the next end each step's gradient has `lambda F (theta - theta*)` added. The
//! sum is scaled to a mean of 1, so that `lambda` means the same whatever the size of the gradients.

use std::sync::Arc;

use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;

use crate::continual::base_model::Base;
use crate::continual::learner::{Factors, Learner, Method, PhaseData, Protocol, Setup, all_examples};
use crate::continual::stream::{AgentBatch, StreamKind};

/// What remains of the earlier phases' information at each end of a phase.
const KEEP: f32 = 0.95;
/// Examples whose gradients are squared together; fewer would be closer to the definition and slower.
const CHUNK: usize = 4;
/// Examples that the information is estimated from.
const EXAMPLES: usize = 128;

#[derive(Debug)]
struct Ewc {
    factors: Factors,
    lambda: f32,
    /// Information and where the values were, tensor by tensor; empty until the first phase has ended.
    fisher: Vec<Vec<f32>>,
    anchor: Vec<Vec<f32>>,
    /// One over the mean of the information.
    scale: f32,
}

impl Learner for Ewc {
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64 {
        let mut gradient = base.gradient(self.factors.published(), all_examples(batches));
        let pull = self.lambda * self.scale;
        let tensors = gradient.tensors.iter_mut().zip(self.factors.tensors());
        for ((g, values), (fisher, anchor)) in tensors.zip(self.fisher.iter().zip(&self.anchor)) {
            for (((g, value), f), old) in g.iter_mut().zip(values).zip(fisher).zip(anchor) {
                *g += pull * f * (value - old);
            }
        }
        self.factors.step(base, &gradient);
        gradient.loss
    }

    fn end_phase(&mut self, base: &Base, phase: &PhaseData<'_>) {
        if self.fisher.is_empty() {
            self.fisher = self.factors.tensors().map(|values| vec![0.0; values.len()]).collect();
        }
        self.fisher.iter_mut().flatten().for_each(|f| *f *= KEEP);
        let examples = &phase.examples[..phase.examples.len().min(EXAMPLES)];
        let chunks = examples.chunks(CHUNK);
        let share = 1.0 / chunks.len().max(1) as f32;
        for chunk in chunks {
            let gradient = base.gradient(self.factors.published(), chunk);
            for (f, g) in self.fisher.iter_mut().flatten().zip(gradient.tensors.iter().flatten()) {
                *f += share * g * g;
            }
        }
        self.anchor = self.factors.tensors().map(<[f32]>::to_vec).collect();
        let (sum, count) = self.fisher.iter().flatten().fold((0.0_f64, 0), |(s, n), f| (s + f64::from(*f), n + 1));
        self.scale = if sum > 0.0 { (f64::from(count) / sum) as f32 } else { 0.0 };
    }

    fn weights(&self, _base: &Base, _agent: usize) -> Arc<LoraWeights<Cpu>> {
        Arc::clone(self.factors.published())
    }
}

fn make(base: &Base, setup: &Setup<'_>) -> anyhow::Result<Box<dyn Learner>> {
    Ok(Box::new(Ewc {
        factors: Factors::new(base, setup.rank, setup.seed, setup.learning_rate)?,
        lambda: setup.hyper as f32,
        fisher: Vec::new(),
        anchor: Vec::new(),
        scale: 0.0,
    }))
}

/// `ewc`.
pub(super) fn methods() -> Vec<Method> {
    vec![Method {
        name: "ewc",
        what: "one LoRA and online EWC",
        protocol: Protocol::Stream,
        boundaries: true,
        hyper: Some(("lambda", &[0.1, 1.0, 10.0, 100.0])),
        tuned_as: "ewc",
        fits: |kind| kind != StreamKind::Agents,
        make,
    }]
}
