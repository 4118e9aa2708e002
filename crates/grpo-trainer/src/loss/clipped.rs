//! The clipped surrogate of PPO, with separate bounds and an optional bound on both sides.

use super::{LossSettings, Surrogate};

/// `-min(min(r, delta) A, clamp(r, 1 - epsilon_low, 1 + epsilon_high) A)`.
pub(super) fn surrogate(settings: &LossSettings, ratio: f64, advantage: f64) -> Surrogate {
    let (low, high) = (1.0 - settings.epsilon_low, 1.0 + settings.epsilon_high);
    let bounded = bounded(settings, ratio);
    let bounded_slope = if settings.delta.is_some_and(|delta| ratio > delta) { 0.0 } else { advantage };
    let clamped_slope = if ratio < low || ratio > high { 0.0 } else { advantage };
    let left = bounded * advantage;
    let right = ratio.clamp(low, high) * advantage;
    let slope = if left < right {
        bounded_slope
    } else if left > right {
        clamped_slope
    } else {
        // Torch's rule for the minimum of equals. Inside the clip range both slopes are the same.
        0.5 * (bounded_slope + clamped_slope)
    };
    Surrogate { loss: -left.min(right), d_ratio: -slope, d_log_prob: 0.0 }
}

/// The ratio after `delta`: what the clip metrics count, as in TRL.
pub(super) fn bounded(settings: &LossSettings, ratio: f64) -> f64 {
    settings.delta.map_or(ratio, |delta| ratio.min(delta))
}
