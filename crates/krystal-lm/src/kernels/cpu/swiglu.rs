//! The gated activation `silu(gate) * up` (Shazeer 2020, arXiv:2002.05202).

use super::simd::{LANES, exp, multiversion};

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn sigmoid(x: [f32; LANES]) -> [f32; LANES] {
    let mut negative = [0.0; LANES];
    for l in 0..LANES {
        negative[l] = -x[l];
    }
    let mut out = exp(negative);
    for value in &mut out {
        *value = 1.0 / (1.0 + *value);
    }
    out
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
        let whole = out.len() / LANES * LANES;
        for ((g, u), o) in gate.as_chunks::<LANES>().0.iter().zip(up.as_chunks::<LANES>().0).zip(out.as_chunks_mut::<LANES>().0) {
            let s = sigmoid(*g);
            for l in 0..LANES {
                o[l] = g[l] * s[l] * u[l];
            }
        }
        let s = sigmoid(lanes(&gate[whole..]));
        for (l, o) in out[whole..].iter_mut().enumerate() {
            *o = gate[whole + l] * s[l] * up[whole + l];
        }
    }
}

multiversion! {
    /// `gate` becomes `d_gate = d_out up s (1 + gate (1 - s))`, `up` becomes `d_up = d_out gate s`.
    pub(super) fn backward(d_out: &[f32], gate: &mut [f32], up: &mut [f32]) {
        let whole = d_out.len() / LANES * LANES;
        let lanes_of = gate.as_chunks_mut::<LANES>().0.iter_mut().zip(up.as_chunks_mut::<LANES>().0);
        for (d, (g, u)) in d_out.as_chunks::<LANES>().0.iter().zip(lanes_of) {
            let s = sigmoid(*g);
            for l in 0..LANES {
                let silu = g[l] * s[l];
                let slope = s[l] * g[l].mul_add(1.0 - s[l], 1.0);
                (g[l], u[l]) = (d[l] * u[l] * slope, d[l] * silu);
            }
        }
        let s = sigmoid(lanes(&gate[whole..]));
        for (l, d) in d_out[whole..].iter().enumerate() {
            let (g, u) = (gate[whole + l], up[whole + l]);
            let slope = s[l] * g.mul_add(1.0 - s[l], 1.0);
            (gate[whole + l], up[whole + l]) = (d * u * slope, d * g * s[l]);
        }
    }
}
