//! One adapter and a reservoir of past examples: a share of each batch is drawn from it.

use std::sync::Arc;

use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use crate::continual::base_model::Base;
use crate::continual::learner::{Factors, Learner, Method, Protocol, Setup, all_examples};
use crate::continual::stream::{AgentBatch, StreamKind};
use crate::continual::task::Example;

#[derive(Debug)]
struct Replay {
    factors: Factors,
    seed: u64,
    /// A uniform sample of everything seen (reservoir sampling, Vitter 1985).
    reservoir: Vec<Example>,
    capacity: usize,
    seen: usize,
    step: u64,
    /// Examples of the past for one of the present.
    share: f64,
}

impl Learner for Replay {
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64 {
        let mut rng = stream_rng(self.seed, Purpose::ExampleOrder, 1, self.step);
        self.step += 1;
        let new: Vec<&Example> = all_examples(batches).collect();
        let wanted = self.share * new.len() as f64;
        // The fraction of an example comes up as often as its size says.
        let count = wanted as usize + usize::from(rng.random_bool(wanted.fract()));
        let old: Vec<&Example> = match self.reservoir.is_empty() {
            true => Vec::new(),
            false => (0..count).map(|_| &self.reservoir[rng.random_range(0..self.reservoir.len())]).collect(),
        };
        let gradient = base.gradient(self.factors.published(), new.iter().copied().chain(old));
        self.factors.step(base, &gradient);
        for example in new {
            self.seen += 1;
            if self.reservoir.len() < self.capacity {
                self.reservoir.push(example.clone());
            } else {
                let place = rng.random_range(0..self.seen);
                if place < self.capacity {
                    self.reservoir[place] = example.clone();
                }
            }
        }
        gradient.loss
    }

    fn weights(&self, _base: &Base, _agent: usize) -> Arc<LoraWeights<Cpu>> {
        Arc::clone(self.factors.published())
    }
}

fn make(base: &Base, setup: &Setup<'_>) -> anyhow::Result<Box<dyn Learner>> {
    let settings = setup.settings;
    // 2 % of the stream without repetition, in examples.
    let phases = if setup.kind == StreamKind::Recurring { 15 } else { settings.phases };
    let capacity = (settings.steps(setup.kind) * settings.batch(setup.kind) * phases).div_ceil(50);
    Ok(Box::new(Replay {
        factors: Factors::new(base, setup.rank, setup.seed, setup.learning_rate)?,
        seed: setup.seed,
        reservoir: Vec::new(),
        capacity,
        seen: 0,
        step: 0,
        share: setup.hyper,
    }))
}

/// `replay`.
pub(super) fn methods() -> Vec<Method> {
    vec![Method {
        name: "replay",
        what: "one LoRA, 2 % of the stream kept and mixed in",
        protocol: Protocol::Stream,
        boundaries: false,
        hyper: Some(("share", &[0.02])),
        tuned_as: "replay",
        fits: |kind| kind != StreamKind::Agents,
        make,
    }]
}
