//! The random walk of Sutton and Barto, example 7.1: 19 states in a row, -1 beyond the left end and +1 beyond the right one.

use krystal_math::rng::SplitMix64;
use krystal_rl::Next;

pub(crate) const N_STATES: usize = 19;

/// The value of each state.
pub(crate) fn true_values() -> Vec<f64> {
    (0..N_STATES).map(|s| (2 * s) as f64 / 20.0 - 0.9).collect()
}

/// One step after another `(state, reward, next)`.
pub(crate) fn episode(rng: &mut SplitMix64, mut step: impl FnMut(u32, f64, Next<u32>)) {
    let mut state = N_STATES as u32 / 2;
    loop {
        let right = rng.uniform() < 0.5;
        match state {
            0 if !right => return step(state, -1.0, Next::Terminated),
            18 if right => return step(state, 1.0, Next::Terminated),
            _ => {}
        }
        let next = if right { state + 1 } else { state - 1 };
        step(state, 0.0, Next::Continues(next));
        state = next;
    }
}
