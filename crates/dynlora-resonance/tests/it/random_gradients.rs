//! Gradients with a known direction in them.

use dynlora_core::AgentId;
use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::Rng;

pub(crate) fn stream(index: u64) -> StreamRng {
    stream_rng(3, Purpose::Task, index, 0)
}

/// Sums of four uniform numbers, centred: close to normal.
pub(crate) fn noise(length: usize, rng: &mut StreamRng) -> Vec<f32> {
    (0..length)
        .map(|_| {
            let word = rng.next_u64();
            (0..4).map(|i| (word >> (16 * i)) & 0xffff).sum::<u64>() as f32 / 65_536.0 - 2.0
        })
        .collect()
}

pub(crate) fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let inverse = 1.0 / dot(&vector, &vector).sqrt();
    for value in &mut vector {
        *value = (f64::from(*value) * inverse) as f32;
    }
    vector
}

/// `size (rho signal + sqrt(1 - rho^2) noise)` with unit signal and unit noise.
pub(crate) fn batch(signal: &[f32], rho: f64, size: f64, rng: &mut StreamRng) -> Vec<f32> {
    let mut vector = unit(noise(signal.len(), rng));
    let across = (1.0 - rho * rho).sqrt();
    for (value, signal) in vector.iter_mut().zip(signal) {
        *value = (size * (rho * f64::from(*signal) + across * f64::from(*value))) as f32;
    }
    vector
}

/// Log-normal with deviation 0.5 of the logarithm.
pub(crate) fn size(rng: &mut StreamRng) -> f64 {
    let normal: f64 = (0..12).map(|_| f64::from(rng.next_u32()) / 2.0_f64.powi(32)).sum::<f64>() - 6.0;
    (0.5 * normal).exp()
}

pub(crate) fn by_agent(gradients: &[Vec<f32>]) -> Vec<(AgentId, &[f32])> {
    gradients.iter().enumerate().map(|(agent, gradient)| (AgentId(agent as u64), gradient.as_slice())).collect()
}

pub(crate) fn mean(gradients: &[Vec<f32>]) -> Vec<f32> {
    (0..gradients[0].len())
        .map(|index| gradients.iter().map(|gradient| gradient[index]).sum::<f32>() / gradients.len() as f32)
        .collect()
}

pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
}

pub(crate) fn cosine(left: &[f32], right: &[f32]) -> f64 {
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}
