//! Random streams addressed by `(seed, stream, index)`.
//!
//! Every draw in Krystal comes from such an address, never from a generator that is passed along, so a result does not
//! depend on the order in which threads ask, and a resumed run draws what the uninterrupted one would have drawn.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator behind every stream: ChaCha with 8 rounds. A change of generator is value-breaking.
pub type StreamRng = ChaCha8Rng;

/// Names the purpose of a stream, so that two users of one seed never share draws.
///
/// Values are stable: changing one changes the results of recorded runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
#[non_exhaustive]
pub enum Purpose {
    /// Initial values of model weights.
    Weights = 1,
    /// Initial values of adapter factors.
    Adapter = 2,
    /// The order in which prompts are visited.
    PromptOrder = 3,
    /// Tokens sampled while training.
    Rollout = 4,
    /// Tokens sampled while evaluating.
    Evaluation = 5,
    /// Tokens sampled for a user.
    Generation = 6,
    /// Problems made by a task's generator.
    Task = 7,
    /// Demonstrations for supervised training.
    Demonstration = 8,
    /// The order in which supervised examples are visited.
    ExampleOrder = 9,
    /// Tables of random projections.
    Sketch = 10,
    /// Initial values of the layers of a dynamic adapter.
    DynamicAdapter = 11,
    /// The order in which work is handed out, shuffled to see that nothing depends on it.
    Schedule = 12,
    /// Numbers to check the machine with.
    SelfCheck = 13,
}

/// The generator of one stream.
///
/// The 256-bit ChaCha key is `seed | purpose | stream | index`, each little-endian `u64`: distinct addresses are distinct
/// keys, so streams cannot overlap.
///
/// ```
/// use krystal_math::rng::{Purpose, stream_rng};
/// use rand::RngExt;
///
/// let a: f64 = stream_rng(7, Purpose::Rollout, 3, 0).random();
/// let b: f64 = stream_rng(7, Purpose::Rollout, 3, 0).random();
/// let c: f64 = stream_rng(7, Purpose::Rollout, 4, 0).random();
/// assert_eq!(a, b);
/// assert_ne!(a, c);
/// ```
pub fn stream_rng(seed: u64, purpose: Purpose, stream: u64, index: u64) -> StreamRng {
    let mut key = [0_u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, stream, index]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
