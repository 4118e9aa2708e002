//! Two layers: a fast adapter that is trained and a slow one that follows it as an exponential moving average, after SuRe
//! (arXiv:2511.22367) without its replay.
//!
//! The forward pass of training has the fast adapter alone; the slow one is `slow <- slow + rate (fast - slow)`, factor by
//! factor, after every step, and at the end of a phase the fast one starts again from the slow one. The slow one answers. An
//! average needs factors of one shape, so that both have the whole rank: twice the memory of the other methods while training, as
//! much when answering. `ema2-free` is never told where phases end and never starts again.

use std::sync::Arc;

use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;

use crate::continual::base_model::Base;
use crate::continual::learner::{Factors, Learner, Method, PhaseData, Protocol, Setup, all_examples};
use crate::continual::stream::AgentBatch;

#[derive(Debug)]
struct Ema2 {
    fast: Factors,
    slow: Factors,
    rate: f32,
    restart: bool,
}

impl Learner for Ema2 {
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64 {
        let gradient = base.gradient(self.fast.published(), all_examples(batches));
        self.fast.step(base, &gradient);
        for (slow, fast) in self.slow.adapter.modules.iter_mut().zip(&self.fast.adapter.modules) {
            let pairs = slow.a.iter_mut().chain(&mut slow.b).zip(fast.a.iter().chain(&fast.b));
            pairs.for_each(|(slow, fast)| *slow += self.rate * (fast - *slow));
        }
        self.slow.publish(base);
        gradient.loss
    }

    fn end_phase(&mut self, base: &Base, _phase: &PhaseData<'_>) {
        if self.restart {
            self.fast.adapter.clone_from(&self.slow.adapter);
            self.fast.reset_optimizer();
            self.fast.publish(base);
        }
    }

    fn weights(&self, _base: &Base, _agent: usize) -> Arc<LoraWeights<Cpu>> {
        Arc::clone(self.slow.published())
    }
}

fn make(base: &Base, setup: &Setup<'_>, restart: bool) -> anyhow::Result<Box<dyn Learner>> {
    // Both start from the same values: the average of the factors is then meaningful.
    let fast = Factors::new(base, setup.rank, setup.seed, setup.learning_rate)?;
    Ok(Box::new(Ema2 { slow: fast.clone(), fast, rate: setup.hyper as f32, restart }))
}

/// `ema2` and `ema2-free`.
pub(super) fn methods() -> Vec<Method> {
    let ema2 = Method {
        name: "ema2",
        what: "fast LoRA and its slow average, which answers; the fast one restarts from it",
        protocol: Protocol::Stream,
        boundaries: true,
        hyper: Some(("rate", &[0.02, 0.05, 0.1])),
        tuned_as: "ema2",
        fits: |_| true,
        make: |base, setup| make(base, setup, true),
    };
    let free = Method {
        name: "ema2-free",
        what: "as ema2, but the fast one is never restarted",
        boundaries: false,
        tuned_as: "ema2-free",
        make: |base, setup| make(base, setup, false),
        ..ema2
    };
    vec![ema2, free]
}
