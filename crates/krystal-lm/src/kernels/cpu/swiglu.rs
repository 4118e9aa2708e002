//! The gated activation `silu(gate) * up` (Shazeer 2020, arXiv:2002.05202).

use super::simd::{LANES, exp, multiversion};

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn sigmoid(x: [f32; LANES]) -> [f32; LANES] {
    let e = exp(x.map(|x| -x));
    e.map(|e| 1.0 / (1.0 + e))
}

/// Up to 16 values as lanes, zeros behind them.
#[inline(always)]
fn lanes(values: &[f32]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    if values.len() == LANES {
        out.copy_from_slice(values);
    } else {
        out[..values.len()].copy_from_slice(values);
    }
    out
}

multiversion! {
    pub(super) fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((g, u), o) in gate.chunks(LANES).zip(up.chunks(LANES)).zip(out.chunks_mut(LANES)) {
            let s = sigmoid(lanes(g));
            for l in 0..o.len() {
                o[l] = g[l] * s[l] * u[l];
            }
        }
    }
}

multiversion! {
    /// `gate` becomes `d_gate = d_out up s (1 + gate (1 - s))`, `up` becomes `d_up = d_out gate s`.
    pub(super) fn backward(d_out: &[f32], gate: &mut [f32], up: &mut [f32]) {
        for ((d, g), u) in d_out.chunks(LANES).zip(gate.chunks_mut(LANES)).zip(up.chunks_mut(LANES)) {
            let s = sigmoid(lanes(g));
            for l in 0..d.len() {
                let silu = g[l] * s[l];
                let slope = s[l] * g[l].mul_add(1.0 - s[l], 1.0);
                (g[l], u[l]) = (d[l] * u[l] * slope, d[l] * silu);
            }
        }
    }
}
