//! One adapter, trained on whatever comes; also, by its protocol, the joint ceiling and the fresh adapter of each phase.

use std::sync::Arc;

use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;

use crate::continual::base_model::Base;
use crate::continual::learner::{Factors, Learner, Method, Protocol, Setup, all_examples};
use crate::continual::stream::{AgentBatch, StreamKind};

#[derive(Debug)]
struct Sequential {
    factors: Factors,
}

impl Learner for Sequential {
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64 {
        let gradient = base.gradient(self.factors.published(), all_examples(batches));
        self.factors.step(base, &gradient);
        gradient.loss
    }

    fn weights(&self, _base: &Base, _agent: usize) -> Arc<LoraWeights<Cpu>> {
        Arc::clone(self.factors.published())
    }
}

fn make(base: &Base, setup: &Setup<'_>) -> anyhow::Result<Box<dyn Learner>> {
    Ok(Box::new(Sequential { factors: Factors::new(base, setup.rank, setup.seed, setup.learning_rate)? }))
}

/// `sequential`, `joint` and `fresh`.
pub(super) fn methods() -> Vec<Method> {
    let sequential = Method {
        name: "sequential",
        what: "one LoRA, phase after phase",
        protocol: Protocol::Stream,
        boundaries: false,
        hyper: None,
        tuned_as: "sequential",
        fits: |_| true,
        make,
    };
    let joint = Method {
        name: "joint",
        what: "one LoRA, all tasks mixed (ceiling)",
        protocol: Protocol::Joint,
        tuned_as: "joint",
        fits: |kind| kind != StreamKind::Agents,
        ..sequential
    };
    let fresh = Method {
        name: "fresh",
        what: "a new LoRA for each phase (plasticity)",
        protocol: Protocol::Fresh,
        tuned_as: "fresh",
        fits: |kind| !matches!(kind, StreamKind::Agents | StreamKind::Recurring),
        ..sequential
    };
    vec![sequential, joint, fresh]
}
