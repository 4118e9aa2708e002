//! Register tiles in AVX-512 and AVX2.

use std::arch::x86_64::*;

use super::{LANES, Tile};

/// Steps ahead that weights are asked for.
const PREFETCH: usize = 24;

/// Picks the instance for `rows` by `panels`.
macro_rules! pick {
    ($tile:expr, $rows:expr, $panels:expr, $kernel:ident: $(($r:literal, $p:literal)),* $(,)?) => {
        match ($rows, $panels) {
            $(($r, $p) => $kernel::<$r, $p>($tile),)*
            (rows, panels) => unreachable!("no kernel for {rows} rows by {panels} panels"),
        }
    };
}

/// # Safety
/// As [`super::sweep`].
pub(super) unsafe fn tile512(rows: usize, panels: usize, t: &Tile) {
    // SAFETY: by the caller's promise.
    unsafe {
        pick!(t, rows, panels, avx512:
            (1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2), (2, 4), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8),
            (4, 1), (4, 2), (4, 4), (5, 1), (5, 2), (5, 4), (6, 1), (6, 2), (6, 4),
            (7, 1), (7, 2), (8, 1), (8, 2), (9, 1), (9, 2), (10, 1), (10, 2), (11, 1), (11, 2), (12, 1), (12, 2));
    }
}

/// # Safety
/// As [`super::sweep`].
pub(super) unsafe fn tile256(rows: usize, panels: usize, t: &Tile) {
    // SAFETY: by the caller's promise.
    unsafe {
        pick!(t, rows, panels, avx2:
            (1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (5, 1), (6, 1));
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn avx512<const R: usize, const P: usize>(t: &Tile) {
    let last: __mmask16 = if t.last == LANES { !0 } else { (1 << t.last) - 1 };
    let mask = |p: usize| if p + 1 == P { last } else { !0 };
    let mut acc = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: by the caller's promise; masked lanes are not touched.
    unsafe {
        if t.add {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm512_maskz_loadu_ps(mask(p), t.out.add(r * t.out_stride + p * LANES));
                }
            }
        }
        let mut left = t.left;
        let mut right = t.right;
        for _ in 0..t.k {
            // Few rows read each weight once, from memory: the hardware prefetcher alone leaves half the bandwidth unused.
            for p in 0..P {
                _mm_prefetch::<_MM_HINT_T0>(right.wrapping_add(p * t.panel_stride + PREFETCH * t.right_step).cast());
            }
            if P <= R {
                let mut w = [_mm512_setzero_ps(); P];
                for (p, w) in w.iter_mut().enumerate() {
                    *w = _mm512_loadu_ps(right.add(p * t.panel_stride));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*left.add(r * t.row_stride));
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm512_fmadd_ps(x, w, *acc);
                    }
                }
            } else {
                let mut x = [_mm512_setzero_ps(); R];
                for (r, x) in x.iter_mut().enumerate() {
                    *x = _mm512_set1_ps(*left.add(r * t.row_stride));
                }
                for p in 0..P {
                    let w = _mm512_loadu_ps(right.add(p * t.panel_stride));
                    for (acc, x) in acc.iter_mut().zip(&x) {
                        acc[p] = _mm512_fmadd_ps(*x, w, acc[p]);
                    }
                }
            }
            left = left.wrapping_add(t.step_stride);
            right = right.wrapping_add(t.right_step);
        }
        for (r, acc) in acc.iter().enumerate() {
            for (p, acc) in acc.iter().enumerate() {
                _mm512_mask_storeu_ps(t.out.add(r * t.out_stride + p * LANES), mask(p), *acc);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize, const P: usize>(t: &Tile) {
    let mut acc = [[[_mm256_setzero_ps(); 2]; P]; R];
    // SAFETY: by the caller's promise; the last panel goes through a buffer when it is partial.
    unsafe {
        let mut edge = [0.0_f32; LANES];
        if t.add {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (p, acc) in acc.iter_mut().enumerate() {
                    let mut from: *const f32 = t.out.add(r * t.out_stride + p * LANES);
                    if p + 1 == P && t.last < LANES {
                        std::ptr::copy_nonoverlapping(from, edge.as_mut_ptr(), t.last);
                        from = edge.as_ptr();
                    }
                    *acc = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
                }
            }
        }
        let mut left = t.left;
        let mut right = t.right;
        for _ in 0..t.k {
            for p in 0..P {
                let w = [
                    _mm256_loadu_ps(right.add(p * t.panel_stride)),
                    _mm256_loadu_ps(right.add(p * t.panel_stride + 8)),
                ];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*left.add(r * t.row_stride));
                    acc[p] = [_mm256_fmadd_ps(x, w[0], acc[p][0]), _mm256_fmadd_ps(x, w[1], acc[p][1])];
                }
            }
            left = left.wrapping_add(t.step_stride);
            right = right.wrapping_add(t.right_step);
        }
        for (r, acc) in acc.iter().enumerate() {
            for (p, acc) in acc.iter().enumerate() {
                let to = t.out.add(r * t.out_stride + p * LANES);
                if p + 1 == P && t.last < LANES {
                    _mm256_storeu_ps(edge.as_mut_ptr(), acc[0]);
                    _mm256_storeu_ps(edge.as_mut_ptr().add(8), acc[1]);
                    std::ptr::copy_nonoverlapping(edge.as_ptr(), to, t.last);
                } else {
                    _mm256_storeu_ps(to, acc[0]);
                    _mm256_storeu_ps(to.add(8), acc[1]);
                }
            }
        }
    }
}
