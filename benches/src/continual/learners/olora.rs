//! O-LoRA (Wang et al. 2023, arXiv:2310.14152): each phase gets factors of its own, whose `A` is kept orthogonal to those of the
//! phases before by the loss `lambda sum |A_new A_old^T|`; the sum of all answers.
//!
//! The ranks of all phases together are the rank of one adapter. The old factors stay as they were.

use std::sync::Arc;

use dynlora_core::LoraAdapter;
use grpo_trainer::optimizer::{AdamW, AdamWSettings};
use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;

use crate::continual::base_model::Base;
use crate::continual::learner::{Learner, Method, PhaseData, Protocol, Setup, all_examples};
use crate::continual::stream::{AgentBatch, StreamKind};

#[derive(Debug)]
struct OLora {
    /// All phases' factors in one adapter: phase `p` has the channels `p * width..(p + 1) * width`.
    adapter: LoraAdapter,
    adamw: AdamW<f32>,
    learning_rate: f64,
    lambda: f32,
    /// Channels that are trained.
    current: std::ops::Range<usize>,
    rank: usize,
    published: Arc<LoraWeights<Cpu>>,
}

impl OLora {
    /// A new optimiser for the current channels of every `A` and `B`.
    fn fresh_adamw(adapter: &LoraAdapter, width: usize) -> AdamW<f32> {
        AdamW::new(AdamWSettings::default(), adapter.modules.iter().flat_map(|m| [width * m.d_in, width * m.d_out]))
    }
}

impl Learner for OLora {
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64 {
        let gradient = base.gradient(&self.published, all_examples(batches));
        let (current, rank) = (self.current.clone(), self.rank);
        let mut values = Vec::new();
        let mut gradients = Vec::new();
        for (module, pair) in self.adapter.modules.iter().zip(gradient.tensors.chunks_exact(2)) {
            let rows = current.start * module.d_in..current.end * module.d_in;
            let mut d_a = pair[0][rows.clone()].to_vec();
            // d/dA_new of sum |A_new A_old^T| is sign(A_new A_old^T) A_old.
            for (new, d_new) in module.a[rows.clone()].chunks_exact(module.d_in).zip(d_a.chunks_exact_mut(module.d_in))
            {
                for old in module.a[..rows.start].chunks_exact(module.d_in) {
                    let dot: f32 = new.iter().zip(old).map(|(x, y)| x * y).sum();
                    let sign = self.lambda * if dot > 0.0 { 1.0 } else { -1.0 };
                    d_new.iter_mut().zip(old).for_each(|(d, y)| *d += sign * y);
                }
            }
            let columns = |b: &[f32]| -> Vec<f32> {
                b.chunks_exact(rank).flat_map(|row| &row[current.clone()]).copied().collect()
            };
            values.extend([module.a[rows].to_vec(), columns(&module.b)]);
            gradients.extend([d_a, columns(&pair[1])]);
        }
        let tensors = values.iter_mut().zip(&gradients).map(|(v, g)| (v.as_mut_slice(), g.as_slice()));
        self.adamw.step(self.learning_rate, tensors);
        for (module, pair) in self.adapter.modules.iter_mut().zip(values.chunks_exact(2)) {
            module.a[current.start * module.d_in..current.end * module.d_in].copy_from_slice(&pair[0]);
            for (row, new) in module.b.chunks_exact_mut(rank).zip(pair[1].chunks_exact(current.len())) {
                row[current.clone()].copy_from_slice(new);
            }
        }
        self.published = Arc::new(base.publish(&self.adapter));
        gradient.loss
    }

    fn end_phase(&mut self, _base: &Base, _phase: &PhaseData<'_>) {
        let width = self.current.len();
        if self.current.end + width <= self.rank {
            self.current = self.current.end..self.current.end + width;
        }
        self.adamw = Self::fresh_adamw(&self.adapter, width);
    }

    fn weights(&self, _base: &Base, _agent: usize) -> Arc<LoraWeights<Cpu>> {
        Arc::clone(&self.published)
    }
}

fn make(base: &Base, setup: &Setup<'_>) -> anyhow::Result<Box<dyn Learner>> {
    // A recurring stream has more phases than there are ranks to share: eight sets, the last one goes on.
    let sets = if setup.kind == StreamKind::Recurring { 8 } else { setup.settings.phases };
    let width = (setup.rank / sets).max(1);
    let adapter = base.adapter(setup.rank, setup.seed)?;
    Ok(Box::new(OLora {
        adamw: OLora::fresh_adamw(&adapter, width),
        published: Arc::new(base.publish(&adapter)),
        adapter,
        learning_rate: setup.learning_rate,
        lambda: setup.hyper as f32,
        current: 0..width,
        rank: setup.rank,
    }))
}

/// `olora`.
pub(super) fn methods() -> Vec<Method> {
    vec![Method {
        name: "olora",
        what: "new factors each phase, orthogonal to the old",
        protocol: Protocol::Stream,
        boundaries: true,
        hyper: Some(("lambda", &[0.003, 0.03, 0.3])),
        tuned_as: "olora",
        fits: |kind| kind != StreamKind::Agents,
        make,
    }]
}
