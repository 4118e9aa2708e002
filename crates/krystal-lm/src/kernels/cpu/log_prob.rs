//! Log-probability and entropy of tokens, fused with the head so that no `(rows, vocabulary)` array exists.
//!
//! The vocabulary passes by in chunks of [`CHUNK`] columns; a running maximum `m`, `s = sum e^(z-m)` and
//! `t = sum (z-m) e^(z-m)` are merged chunk by chunk (the online softmax of Milakov and Gimelshein 2018, arXiv:1805.02867).
//! Then `log p = z_target - m - ln s` and `H = ln s - t / s`. Sampling runs the same [`Summary`] over the same chunks, so
//! it records exactly what scoring returns.

use super::matmul::{self, Left, Right};
use super::panel::Panels;
use super::simd::{LANES, exp, max, multiversion, sum};
use crate::kernels::{LogProbWeights, LogProbs, Write};

/// Columns of the vocabulary computed at a time; a multiple of 16.
pub(crate) const CHUNK: usize = 1024;
/// Rows computed at a time.
const ROWS: usize = 96;

/// What is known of a row's distribution after some chunks of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    max: f32,
    sum: f32,
    weighted: f32,
}

impl Summary {
    const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0 };

    /// The summary of a whole row of logits.
    pub(crate) fn of_row(logits: &[f32], inverse_temperature: f32) -> Self {
        let mut summary = Self::EMPTY;
        for chunk in logits.chunks(CHUNK) {
            summary.absorb(chunk, inverse_temperature);
        }
        summary
    }

    /// Whether the row is a distribution: all logits are numbers, none too large.
    pub(crate) fn is_finite(&self) -> bool {
        self.sum.is_finite()
    }

    /// The sum of `e^(z - max)` over the row.
    fn total(&self) -> f32 {
        self.sum
    }

    fn absorb(&mut self, logits: &[f32], inverse_temperature: f32) {
        let (max, sum, weighted) = chunk_summary(logits, inverse_temperature);
        let top = if max > self.max { max } else { self.max };
        let rescale = |m: f32, s: f32, t: f32| {
            if s == 0.0 {
                return (0.0, 0.0);
            }
            let f = (m - top).exp();
            (s * f, (t + (m - top) * s) * f)
        };
        let (s0, t0) = rescale(self.max, self.sum, self.weighted);
        let (s1, t1) = rescale(max, sum, weighted);
        *self = Self { max: top, sum: s0 + s1, weighted: t0 + t1 };
    }

    pub(crate) fn log_sum_exp(&self) -> f32 {
        self.max + self.sum.ln()
    }

    pub(crate) fn entropy(&self) -> f32 {
        self.sum.ln() - self.weighted / self.sum
    }

    /// Log-probability of a token with this logit. `(z - m) - ln s` keeps the digits that `z - (m + ln s)` would lose.
    pub(crate) fn log_prob(&self, logit: f32, inverse_temperature: f32) -> f32 {
        (logit * inverse_temperature - self.max) - self.sum.ln()
    }
}

multiversion! {
    fn chunk_summary(logits: &[f32], inverse_temperature: f32) -> (f32, f32, f32) {
        let (whole, rest) = logits.as_chunks::<LANES>();
        let mut tail = [f32::NEG_INFINITY; LANES];
        tail[..rest.len()].copy_from_slice(rest);
        let mut top = tail;
        for z in whole {
            for l in 0..LANES {
                top[l] = if z[l] > top[l] { z[l] } else { top[l] };
            }
        }
        // The temperature is positive, so scaling commutes with the maximum.
        let top = max(top) * inverse_temperature;
        let (mut s, mut t) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for z in whole {
            let mut shifted = [0.0; LANES];
            for l in 0..LANES {
                shifted[l] = z[l] * inverse_temperature - top;
            }
            let e = exp(shifted);
            for l in 0..LANES {
                s[l] += e[l];
                t[l] = shifted[l].mul_add(e[l], t[l]);
            }
        }
        let mut shifted = [-1e9; LANES];
        for l in 0..rest.len() {
            shifted[l] = rest[l] * inverse_temperature - top;
        }
        let e = exp(shifted);
        for l in 0..rest.len() {
            s[l] += e[l];
            t[l] = shifted[l].mul_add(e[l], t[l]);
        }
        (top, sum(s), sum(t))
    }
}

multiversion! {
    /// The token at which the cumulative distribution of a row passes `u`, in [0, 1): 16 tokens are skipped at a time. `None`
    /// if it never does, because `u` is within a rounding error of 1 (or the row holds NaN).
    pub(crate) fn cumulative_draw(logits: &[f32], inverse_temperature: f32, summary: &Summary, u: f64) -> Option<usize> {
        let target = u * f64::from(summary.total());
        let mut cumulative = 0.0_f64;
        for (block, z) in logits.chunks(LANES).enumerate() {
            let mut shifted = [-1e9; LANES];
            for (s, z) in shifted.iter_mut().zip(z) {
                *s = z * inverse_temperature - summary.max;
            }
            let e = exp(shifted);
            let mut within = 0.0_f64;
            for e in &e[..z.len()] {
                within += f64::from(*e);
            }
            if cumulative + within > target {
                let mut sum = cumulative;
                for (l, e) in e[..z.len()].iter().enumerate() {
                    sum += f64::from(*e);
                    if sum > target {
                        return Some(block * LANES + l);
                    }
                }
            }
            cumulative += within;
        }
        None
    }
}

/// What turns a row of logits into its gradient.
#[derive(Debug, Clone, Copy)]
struct LogitGradient {
    inverse_temperature: f32,
    log_sum_exp: f32,
    entropy: f32,
    w_log_prob: f32,
    w_entropy: f32,
}

impl LogitGradient {
    #[inline(always)]
    fn apply(self, z: [f32; LANES]) -> [f32; LANES] {
        let mut log_p = [0.0; LANES];
        for l in 0..LANES {
            log_p[l] = z[l] * self.inverse_temperature - self.log_sum_exp;
        }
        let p = exp(log_p);
        let mut out = [0.0; LANES];
        for l in 0..LANES {
            let slope = self.w_entropy.mul_add(log_p[l] + self.entropy, self.w_log_prob);
            out[l] = -p[l] * slope * self.inverse_temperature;
        }
        out
    }
}

multiversion! {
    /// Turns a chunk of logits into `dL / dlogits` in place, but for the target's own term.
    ///
    /// With `p` the softmax of `z = logit / T`: `dlog_prob/dz_v = [v = target] - p_v`, `dH/dz_v = -p_v (log p_v + H)`.
    fn logit_gradient(logits: &mut [f32], gradient: LogitGradient) {
        let (whole, rest) = logits.as_chunks_mut::<LANES>();
        for z in whole {
            *z = gradient.apply(*z);
        }
        if !rest.is_empty() {
            let mut tail = [0.0; LANES];
            tail[..rest.len()].copy_from_slice(rest);
            let tail = gradient.apply(tail);
            rest.copy_from_slice(&tail[..rest.len()]);
        }
    }
}

/// The chunks of a vocabulary of `v`: first column and width.
fn chunks(v: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..v).step_by(CHUNK).map(move |first| (first, CHUNK.min(v - first)))
}

fn chunk_logits(hidden: &[f32], rows: usize, head: &Panels, first: usize, width: usize, out: &mut [f32]) {
    let k = head.k();
    let right = Right::panels(&head.steps()[first / LANES * k..], k);
    matmul::multiply(rows, width, k, Left::rows(hidden, k), right, out, width, Write::Replace);
}

/// See [`crate::kernels::Kernels::log_prob`].
pub(super) fn forward(hidden: &[f32], head: &Panels, targets: &[u32], temperature: f32) -> LogProbs {
    let (k, v, inverse) = (head.k(), head.n(), 1.0 / temperature);
    let mut out = LogProbs::default();
    let mut scratch = vec![0.0; ROWS.min(targets.len()) * CHUNK.min(v)];
    for (targets, hidden) in targets.chunks(ROWS).zip(hidden.chunks(ROWS * k)) {
        let mut summaries = vec![Summary::EMPTY; targets.len()];
        let mut target_logits = vec![0.0; targets.len()];
        for (first, width) in chunks(v) {
            let logits = &mut scratch[..targets.len() * width];
            chunk_logits(hidden, targets.len(), head, first, width, logits);
            for (r, row) in logits.chunks_exact(width).enumerate() {
                summaries[r].absorb(row, inverse);
                if let Some(logit) = (targets[r] as usize).checked_sub(first).and_then(|t| row.get(t)) {
                    target_logits[r] = *logit;
                }
            }
        }
        for (summary, logit) in summaries.iter().zip(target_logits) {
            out.log_prob.push(summary.log_prob(logit, inverse));
            out.entropy.push(summary.entropy());
            out.log_sum_exp.push(summary.log_sum_exp());
        }
    }
    out
}

/// See [`crate::kernels::Kernels::log_prob_backward`].
#[allow(
    clippy::too_many_arguments,
    reason = "the forward pass's operands, its results, their weights and two gradients"
)]
pub(super) fn backward(
    hidden: &[f32],
    head: &Panels,
    targets: &[u32],
    temperature: f32,
    forward: &LogProbs,
    weights: LogProbWeights<'_>,
    d_hidden: &mut [f32],
    mut d_head: Option<&mut [f32]>,
) {
    let (k, v, inverse) = (head.k(), head.n(), 1.0 / temperature);
    let mut scratch = vec![0.0; ROWS.min(targets.len()) * CHUNK.min(v)];
    for (block, (targets, hidden)) in targets.chunks(ROWS).zip(hidden.chunks(ROWS * k)).enumerate() {
        let d_hidden = &mut d_hidden[block * ROWS * k..][..targets.len() * k];
        for (first, width) in chunks(v) {
            let logits = &mut scratch[..targets.len() * width];
            chunk_logits(hidden, targets.len(), head, first, width, logits);
            for (r, row) in logits.chunks_exact_mut(width).enumerate() {
                let i = block * ROWS + r;
                let gradient = LogitGradient {
                    inverse_temperature: inverse,
                    log_sum_exp: forward.log_sum_exp[i],
                    entropy: forward.entropy[i],
                    w_log_prob: weights.log_prob[i],
                    w_entropy: weights.entropy.get(i).copied().unwrap_or(0.0),
                };
                logit_gradient(row, gradient);
                if let Some(slot) = (targets[r] as usize).checked_sub(first).and_then(|t| row.get_mut(t)) {
                    *slot += weights.log_prob[i] * inverse;
                }
            }
            let write = if first == 0 { Write::Replace } else { Write::Add };
            matmul::linear_backward_rows(logits, targets.len(), head, first..first + width, d_hidden, write);
            if let Some(d_head) = d_head.as_deref_mut() {
                let rows = &mut d_head[first * k..(first + width) * k];
                matmul::weight_gradient(logits, width, hidden, k, targets.len(), rows, Write::Add);
            }
        }
    }
}
