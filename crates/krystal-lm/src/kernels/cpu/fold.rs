//! Rows folded onto a few numbers with random signs.

use super::simd::multiversion;

multiversion! {
    /// `out (R, p)` from `x (R, w)` and `signs (w)`: see [`Kernels::fold`](crate::kernels::Kernels::fold).
    pub(super) fn fold(x: &[f32], signs: &[f32], p: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(signs.len().max(1)).zip(out.chunks_exact_mut(p.max(1))) {
            out.fill(0.0);
            for (x, signs) in x.chunks(p).zip(signs.chunks(p)) {
                for ((out, x), sign) in out.iter_mut().zip(x).zip(signs) {
                    *out += x * sign;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_by_turns_whatever_the_width() {
        for (width, p) in [(7, 3), (8, 4), (3, 5), (1, 1)] {
            let x: Vec<f32> = (0..2 * width).map(|i| i as f32 + 0.5).collect();
            let signs: Vec<f32> = (0..width).map(|i| if i % 3 == 1 { -1.0 } else { 1.0 }).collect();
            let mut out = vec![9.0; 2 * p];
            fold(&x, &signs, p, &mut out);
            for row in 0..2 {
                for j in 0..p {
                    let expected: f32 = (j..width).step_by(p).map(|i| signs[i] * x[row * width + i]).sum();
                    assert_eq!(out[row * p + j], expected, "{width} {p} {row} {j}");
                }
            }
        }
    }
}
