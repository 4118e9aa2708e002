//! RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467).

use super::simd::{LANES, dot, multiversion};
use crate::kernels::Write;

multiversion! {
    /// `out = x * rstd * weight` row by row, `rstd = 1 / sqrt(mean(x^2) + eps)`.
    pub(super) fn forward(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let rstd = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            for ((o, x), w) in out.iter_mut().zip(x).zip(weight) {
                *o = x * rstd * w;
            }
        }
    }
}

multiversion! {
    /// `dx = rstd (w dy - xhat mean(w dy xhat))` with `xhat = x rstd`.
    pub(super) fn backward(dy: &[f32], x: &[f32], weight: &[f32], eps: f32, dx: &mut [f32], write: Write) {
        let width = weight.len();
        for ((dy, x), dx) in dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            let rstd = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            let mut acc = [0.0_f32; LANES];
            for ((dy, x), w) in dy.chunks(LANES).zip(x.chunks(LANES)).zip(weight.chunks(LANES)) {
                for l in 0..dy.len() {
                    acc[l] = (dy[l] * w[l]).mul_add(x[l], acc[l]);
                }
            }
            let mean = super::simd::sum(acc) * rstd * rstd * rstd / width as f32;
            match write {
                Write::Replace => {
                    for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                        *dx = (dy * w).mul_add(rstd, -(x * mean));
                    }
                }
                Write::Add => {
                    for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                        *dx += (dy * w).mul_add(rstd, -(x * mean));
                    }
                }
            }
        }
    }
}

multiversion! {
    /// `d_weight += sum over rows of dy xhat`.
    pub(super) fn weight_gradient(dy: &[f32], x: &[f32], eps: f32, d_weight: &mut [f32]) {
        let width = d_weight.len();
        for (dy, x) in dy.chunks_exact(width).zip(x.chunks_exact(width)) {
            let rstd = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
            for ((d, dy), x) in d_weight.iter_mut().zip(dy).zip(x) {
                *d = (dy * rstd).mul_add(*x, *d);
            }
        }
    }
}
