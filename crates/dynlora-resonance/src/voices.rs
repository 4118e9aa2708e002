//! The gradients that take part in an aggregation, and the sums over them.

use dynlora_core::AgentId;

use crate::consensus;

/// A sum of directions shorter than this share of its weights is what rounding left of a cancellation.
const CANCELLED: f64 = 1e-6;

/// The gradients that are directions, by agent.
pub(crate) struct Voices<'g> {
    pub(crate) agents: Vec<AgentId>,
    pub(crate) gradients: Vec<&'g [f32]>,
    norms: Vec<f64>,
    pub(crate) inverse_norms: Vec<f64>,
    /// Where each stood in the order given.
    pub(crate) places: Vec<usize>,
}

impl<'g> Voices<'g> {
    pub(crate) fn new(gradients: &[(AgentId, &'g [f32])]) -> Self {
        let mut places: Vec<usize> = (0..gradients.len()).collect();
        // The order of sums is that of the agents, whoever came first.
        places.sort_by_key(|place| gradients[*place].0);
        let mut norms = Vec::with_capacity(places.len());
        places.retain(|place| {
            let norm = consensus::norm(gradients[*place].1);
            norms.extend(norm);
            norm.is_some()
        });
        Self {
            agents: places.iter().map(|place| gradients[*place].0).collect(),
            gradients: places.iter().map(|place| gradients[*place].1).collect(),
            inverse_norms: norms.iter().map(|norm| 1.0 / norm).collect(),
            norms,
            places,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.gradients.len()
    }

    /// `out = sum factor_i g_i / n`; returns its norm. What leaves the range of f32 stops at its end.
    pub(crate) fn weighted_mean(&self, factors: &[f64], out: &mut [f32]) -> f64 {
        let n = self.len() as f64;
        let mut squares = 0.0;
        for (index, out) in out.iter_mut().enumerate() {
            let sum: f64 = self.gradients.iter().zip(factors).map(|(g, factor)| f64::from(g[index]) * factor).sum();
            *out = (sum / n).clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
            squares += f64::from(*out) * f64::from(*out);
        }
        squares.sqrt()
    }

    /// `out = |mean of the clipped gradients| normalise(sum factor_i u_i)`; returns its norm.
    pub(crate) fn guarded_sum(&self, factors: &[f64], out: &mut [f32]) -> f64 {
        if let [gradient] = self.gradients.as_slice() {
            out.copy_from_slice(gradient);
            return self.norms[0];
        }
        let middle = median(&self.norms);
        let weights: Vec<f64> = factors.iter().zip(&self.inverse_norms).map(|(f, inverse)| f * inverse).collect();
        // Clipped norms over the median, so that no square leaves the range.
        let clipped: Vec<f64> = self
            .norms
            .iter()
            .zip(&self.inverse_norms)
            .map(|(norm, inverse)| norm.min(middle) / middle * inverse)
            .collect();
        const BLOCK: usize = 1024;
        let (mut sum, mut mean) = ([0.0_f64; BLOCK], [0.0_f64; BLOCK]);
        let (mut sum_squares, mut mean_squares) = (0.0, 0.0);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let (sum, mean) = (&mut sum[..out.len()], &mut mean[..out.len()]);
            sum.fill(0.0);
            mean.fill(0.0);
            for ((gradient, weight), clipped) in self.gradients.iter().zip(&weights).zip(&clipped) {
                let gradient = &gradient[block * BLOCK..][..out.len()];
                for ((value, sum), mean) in gradient.iter().zip(&mut *sum).zip(&mut *mean) {
                    let value = f64::from(*value);
                    *sum += weight * value;
                    *mean += clipped * value;
                }
            }
            for ((out, sum), mean) in out.iter_mut().zip(&*sum).zip(&*mean) {
                *out = *sum as f32;
                sum_squares += sum * sum;
                mean_squares += mean * mean;
            }
        }
        let length = sum_squares.sqrt();
        if length <= CANCELLED * factors.iter().sum::<f64>() {
            out.fill(0.0);
            return 0.0;
        }
        let target = (mean_squares.sqrt() / self.len() as f64 * middle).min(f64::from(f32::MAX));
        let scale = target / length;
        for out in out.iter_mut() {
            // A component that carries the whole norm may round beyond the range.
            *out = (f64::from(*out) * scale).clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        }
        target
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}
