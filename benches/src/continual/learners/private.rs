//! One adapter for each agent, the ranks divided among them.

use std::sync::Arc;

use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;

use crate::continual::base_model::Base;
use crate::continual::learner::{Factors, Learner, Method, Protocol, Setup};
use crate::continual::stream::{AgentBatch, StreamKind};

#[derive(Debug)]
struct Private {
    agents: Vec<Factors>,
}

impl Learner for Private {
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64 {
        let losses = batches.iter().map(|batch| {
            let factors = &mut self.agents[batch.agent];
            let gradient = base.gradient(factors.published(), &batch.examples);
            factors.step(base, &gradient);
            gradient.loss
        });
        losses.sum::<f64>() / batches.len() as f64
    }

    fn weights(&self, _base: &Base, agent: usize) -> Arc<LoraWeights<Cpu>> {
        Arc::clone(self.agents[agent].published())
    }
}

fn make(base: &Base, setup: &Setup<'_>) -> anyhow::Result<Box<dyn Learner>> {
    let rank = (setup.rank / setup.n_agents).max(1);
    let one = |agent| Factors::new(base, rank, setup.seed + (agent as u64) * 1000, setup.learning_rate);
    Ok(Box::new(Private { agents: (0..setup.n_agents).map(one).collect::<anyhow::Result<_>>()? }))
}

/// `private`.
pub(super) fn methods() -> Vec<Method> {
    vec![Method {
        name: "private",
        what: "one LoRA for each agent, ranks divided among them",
        protocol: Protocol::Stream,
        boundaries: false,
        hyper: None,
        tuned_as: "private",
        fits: |kind| kind == StreamKind::Agents,
        make,
    }]
}
