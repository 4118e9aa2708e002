//! Prioritised replay: steps a second.

use std::hint::black_box;

use crate::host::thread_cpu_seconds;
use krystal_math::rng::{Purpose, SplitMix64};
use krystal_rl::{Batch, Next, PrioritizedConfig, PrioritizedReplay, Transition};

/// Features.
const DIM: usize = 8;

/// Steps a second, by what is done with them.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Added with given priorities, 4,096 at once.
    pub add: f64,
    /// Drawn with their weights and copied out, the better of batches of 32 and 256.
    pub sample: f64,
    /// Given other priorities, the better of batches of 32 and 256.
    pub update: f64,
}

/// The rates of a buffer of `slots` on one thread, over so many `calls` for each size of batch.
///
/// # Errors
/// None.
pub fn rates(slots: usize, calls: usize) -> anyhow::Result<Rates> {
    const SIZE: usize = 4096;
    let mut rng = SplitMix64::stream(1, Purpose::Replay, 0, 0);
    let states: Vec<[f32; DIM]> = (0..SIZE).map(|_| std::array::from_fn(|_| rng.normal() as f32)).collect();
    let errors: Vec<f32> = (0..SIZE).map(|_| rng.uniform() as f32).collect();
    let mut replay = PrioritizedReplay::<f32>::new(DIM, slots, PrioritizedConfig::default())?;
    let start = thread_cpu_seconds();
    for _ in 0..slots / SIZE {
        let steps = states.iter().map(|x| Transition { x, action: 0, reward: 0.0, next: Next::Continues(&x[..]) });
        replay.extend(steps, &errors)?;
    }
    let add = (slots / SIZE * SIZE) as f64 / (thread_cpu_seconds() - start);

    let (mut sample, mut update) = (0.0_f64, 0.0_f64);
    for size in [32, 256] {
        let mut batch = Batch::default();
        let start = thread_cpu_seconds();
        for _ in 0..calls {
            replay.sample(size, &mut rng, &mut batch)?;
            black_box(&batch);
        }
        sample = sample.max((calls * size) as f64 / (thread_cpu_seconds() - start));
        let mut batches = Vec::new();
        for _ in 0..100 {
            replay.sample(size, &mut rng, &mut batch)?;
            batches.push(batch.indices.clone());
        }
        let start = thread_cpu_seconds();
        for call in 0..calls {
            replay.update(&batches[call % batches.len()], &errors[..size])?;
        }
        update = update.max((calls * size) as f64 / (thread_cpu_seconds() - start));
    }
    Ok(Rates { add, sample, update })
}
