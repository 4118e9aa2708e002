//! Matrix products.
//!
//! One loop serves them all: `out[r, j] (+)= sum_i left[r, i] * right[i, j]`, where the lanes are 16 neighbouring `j`, the
//! left operand is any strided matrix and the right one is read 16 lanes a step. **Each output element is one chain of fused
//! multiply-adds in the order of `i`**, starting from zero or from the value already there. So an element's bits depend on
//! its row and its column alone: not on the number of rows (a token decoded alone equals the token scored in a batch), nor
//! on blocking, threads or instruction set. That is what lets sampled and rescored log-probabilities agree exactly, and it is
//! why this is not a general BLAS, whose blocking of the sum changes with the shape.
//!
//! A tile of up to 12 rows by 2 panels (or 1 by 8, for decoding one token) lives in registers; the limit is the two FMA units.
#![allow(unsafe_code, reason = "register tiles in intrinsics; `portable` is the safe twin and tests demand equal bits")]

use std::ops::Range;

use rayon::prelude::*;

use super::panel::Panels;
use super::simd::{LANES, Lanes, Level};
use crate::kernels::Write;

/// The left operand: element `(r, i)` is `data[r * row_stride + i * step_stride]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) step_stride: usize,
}

impl<'a> Left<'a> {
    /// A row-major matrix with rows of `k`.
    pub(crate) fn rows(data: &'a [f32], k: usize) -> Self {
        Self { data, row_stride: k, step_stride: 1 }
    }

    /// The transpose of a row-major matrix with rows of `m`.
    pub(crate) fn columns(data: &'a [f32], m: usize) -> Self {
        Self { data, row_stride: 1, step_stride: m }
    }
}

/// The right operand: lane `l` of panel `p` at step `i` is `data[p * panel_stride + i * step_stride + l]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) step_stride: usize,
    pub(crate) panel_stride: usize,
}

impl<'a> Right<'a> {
    /// Packed panels of `k` steps each.
    pub(crate) fn panels(steps: &'a [Lanes], k: usize) -> Self {
        Self { data: flat(steps), step_stride: LANES, panel_stride: k * LANES }
    }
}

/// Lanes as plain floats.
pub(crate) fn flat(steps: &[Lanes]) -> &[f32] {
    // SAFETY: `Lanes` is `repr(C)` over `[f32; 16]`, 64 bytes with alignment 64, hence without padding.
    unsafe { std::slice::from_raw_parts(steps.as_ptr().cast(), steps.len() * LANES) }
}

/// A shared output of which every task writes its own tiles.
#[derive(Clone, Copy)]
struct Output {
    data: *mut f32,
    stride: usize,
    mode: Write,
}

impl Output {
    /// The same output from column `column` on.
    fn at_column(&self, column: usize) -> Self {
        Self { data: self.data.wrapping_add(column), ..*self }
    }
}

// SAFETY: tasks write disjoint tiles, see `multiply`.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// Multiply-adds below which one thread is faster than two.
const PARALLEL_WORK: usize = 1 << 21;
/// Rows up to which a tile of as many rows as possible is best: each weight, read from memory, is used at once by all of them.
/// Beyond, weights come from the cache, and fewer rows by more panels need fewer loads of the left operand.
const FEW_ROWS: usize = 24;
/// Floats of the left operand that stay in the second-level cache while the panels pass by.
const LEFT_BLOCK: usize = 128 * 1024;

/// `out[r, j] (+)= sum_i left[r, i] * right[i, j]` for `r < m`, `i < k`, `j < n`; `out` is row-major with `out_stride`.
///
/// # Panics
/// If an operand is too short for its shape.
#[allow(clippy::too_many_arguments, reason = "a shape, two operands and a result")]
pub(crate) fn multiply(
    m: usize,
    n: usize,
    k: usize,
    left: Left<'_>,
    right: Right<'_>,
    out: &mut [f32],
    out_stride: usize,
    mode: Write,
) {
    if m == 0 || n == 0 {
        return;
    }
    let fits = extent(m, out_stride, n).is_some_and(|needed| needed <= out.len());
    assert!(out_stride >= n && fits, "output ({m}, {n}) does not fit {}", out.len());
    if k > 0 {
        let needed = extent(k, left.step_stride, 1).and_then(|row| extent(m, left.row_stride, row));
        let fits = needed.is_some_and(|needed| needed <= left.data.len());
        assert!(fits, "left operand ({m}, {k}) does not fit {}", left.data.len());
        let needed =
            extent(k, right.step_stride, LANES).and_then(|panel| extent(n.div_ceil(LANES), right.panel_stride, panel));
        let fits = needed.is_some_and(|needed| needed <= right.data.len());
        assert!(fits, "right operand ({k}, {n}) does not fit {}", right.data.len());
    }
    let level = Level::detect();
    let target = Output { data: out.as_mut_ptr(), stride: out_stride, mode };
    let panels = n.div_ceil(LANES);
    let block = (LEFT_BLOCK / k.max(1)).clamp(48, 384);
    let run = |rows: Range<usize>, columns: Range<usize>| {
        for start in rows.clone().step_by(block) {
            let rows = start..rows.end.min(start + block);
            // SAFETY: the assertions above bound every access; `level` is what the processor offers.
            unsafe { sweep(level, rows, columns.clone(), n, k, left, right, target) };
        }
    };
    let threads = rayon::current_num_threads();
    if threads == 1 || m.saturating_mul(n).saturating_mul(k) < PARALLEL_WORK {
        return run(0..m, 0..panels);
    }
    // Tasks are whole tiles, so no element is touched by two of them.
    let by_rows = m.div_ceil(block).min(m.div_ceil(24));
    let by_columns = (2 * threads).div_ceil(by_rows).min(panels.div_ceil(4)).max(1);
    let rows = split(m, by_rows);
    let columns = split(panels, by_columns);
    (0..rows.len() * columns.len())
        .into_par_iter()
        .for_each(|t| run(rows[t % rows.len()].clone(), columns[t / rows.len()].clone()));
}

/// Elements from the first of `count` runs of `len` elements, `stride` apart, to the end of the last; `None` where that is
/// more than memory can have. `count` is at least 1.
fn extent(count: usize, stride: usize, len: usize) -> Option<usize> {
    (count - 1).checked_mul(stride)?.checked_add(len)
}

/// `count` nearly equal ranges that cover `0..len`.
fn split(len: usize, count: usize) -> Vec<Range<usize>> {
    (0..count).map(|i| len * i / count..len * (i + 1) / count).filter(|r| !r.is_empty()).collect()
}

/// `y (m, n) (+)= x (m, k) w^T` with `w` packed `(n, k)`: a linear layer's forward pass.
pub(crate) fn linear(x: &[f32], m: usize, w: &Panels, y: &mut [f32], mode: Write) {
    multiply(m, w.n(), w.k(), Left::rows(x, w.k()), Right::panels(w.steps(), w.k()), y, w.n(), mode);
}

/// `dx (m, k) (+)= dy (m, n) w` with `w` packed `(n, k)`: a linear layer's backward pass to its input.
///
/// The panels hold the wrong orientation for this product; each strip of 16 columns is transposed on the fly, which costs
/// one move per weight against `m` multiply-adds.
pub(crate) fn linear_backward(dy: &[f32], m: usize, w: &Panels, dx: &mut [f32], mode: Write) {
    linear_backward_rows(dy, m, w, 0..w.n(), dx, mode);
}

/// As [`linear_backward`] for the rows `rows` of `w` alone (a multiple of 16 to start with): `dy` is `(m, rows.len())`.
pub(crate) fn linear_backward_rows(dy: &[f32], m: usize, w: &Panels, rows: Range<usize>, dx: &mut [f32], mode: Write) {
    const STRIPS: usize = 4;
    let (n, k) = (rows.len(), w.k());
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(
        extent(m, n, n).is_some_and(|needed| needed <= dy.len())
            && extent(m, k, k).is_some_and(|needed| needed <= dx.len()),
        "({m}, {n}) and ({m}, {k}) do not fit {} and {}",
        dy.len(),
        dx.len()
    );
    assert_eq!(rows.start % LANES, 0);
    let target = Output { data: dx.as_mut_ptr(), stride: k, mode };
    let level = Level::detect();
    let strips = k.div_ceil(LANES);
    let run = |group: Range<usize>, scratch: &mut Vec<Lanes>| {
        scratch.resize(group.len() * n, Lanes::ZERO);
        for (strip, c) in scratch.chunks_exact_mut(n).zip(group.clone()) {
            w.transposed_strip(c, rows.start / LANES, strip);
        }
        let right = Right::panels(scratch, n);
        let width = (k - group.start * LANES).min(group.len() * LANES);
        // SAFETY: the strips hold `n` steps each, `dy` and `dx` were checked above, and groups write disjoint columns.
        unsafe {
            let target = target.at_column(group.start * LANES);
            let block = (LEFT_BLOCK / n).clamp(48, 384);
            for start in (0..m).step_by(block) {
                sweep(level, start..m.min(start + block), 0..group.len(), width, n, Left::rows(dy, n), right, target);
            }
        }
    };
    let groups: Vec<Range<usize>> = (0..strips).step_by(STRIPS).map(|c| c..strips.min(c + STRIPS)).collect();
    if rayon::current_num_threads() == 1 || m.saturating_mul(n).saturating_mul(k) < PARALLEL_WORK {
        let mut scratch = Vec::new();
        groups.into_iter().for_each(|group| run(group, &mut scratch));
    } else {
        groups.into_par_iter().for_each_init(Vec::new, |scratch, group| run(group, scratch));
    }
}

/// `dw (n, k) (+)= dy (m, n)^T x (m, k)`: a linear layer's backward pass to its weight.
pub(crate) fn weight_gradient(dy: &[f32], n: usize, x: &[f32], k: usize, m: usize, dw: &mut [f32], mode: Write) {
    outer(Left::columns(dy, n), n, x, k, k, m, dw, k, mode);
}

/// `out (rows, k) (+)= left (rows, m) x (m, k)` with `x` in rows of `x_stride`: the last, partial panel of `x` is copied so that
/// no lane is read beyond a row.
#[allow(clippy::too_many_arguments, reason = "two operands, a result, their strides and the shape")]
pub(crate) fn outer(
    left: Left<'_>,
    rows: usize,
    x: &[f32],
    x_stride: usize,
    k: usize,
    m: usize,
    out: &mut [f32],
    out_stride: usize,
    mode: Write,
) {
    let whole = k / LANES * LANES;
    if whole > 0 {
        let right = Right { data: x, step_stride: x_stride, panel_stride: LANES };
        multiply(rows, whole, m, left, right, out, out_stride, mode);
    }
    if whole < k && rows > 0 {
        let rest: Vec<Lanes> = (0..m)
            .map(|i| {
                let mut step = Lanes::ZERO;
                step.0[..k - whole].copy_from_slice(&x[i * x_stride + whole..i * x_stride + k]);
                step
            })
            .collect();
        multiply(rows, k - whole, m, left, Right::panels(&rest, m), &mut out[whole..], out_stride, mode);
    }
}

/// One register tile.
struct Tile {
    left: *const f32,
    row_stride: usize,
    step_stride: usize,
    right: *const f32,
    right_step: usize,
    panel_stride: usize,
    k: usize,
    out: *mut f32,
    out_stride: usize,
    /// Valid lanes of the tile's last panel.
    last: usize,
    add: bool,
}

/// Covers `rows` by `columns` (in panels) with tiles.
///
/// # Safety
/// Operands and output must hold the shape, no other thread may touch these tiles, and the processor must offer `level`.
#[allow(clippy::too_many_arguments, reason = "private; a struct would be built for this one call")]
unsafe fn sweep(
    level: Level,
    rows: Range<usize>,
    columns: Range<usize>,
    n: usize,
    k: usize,
    left: Left<'_>,
    right: Right<'_>,
    out: Output,
) {
    if rows.is_empty() {
        return;
    }
    let most = match level {
        Level::Avx512 if rows.len() <= FEW_ROWS => 12,
        Level::Avx512 => 6,
        Level::Avx2 => 6,
        Level::Portable => 4,
    };
    let blocks = split(rows.len(), rows.len().div_ceil(most));
    let tallest = blocks.iter().map(Range::len).max().unwrap_or(0);
    let widest = match level {
        Level::Avx512 => [8, 8, 8, 4, 4, 4, 2, 2, 2, 2, 2, 2][tallest - 1],
        Level::Avx2 => [4, 2, 2, 1, 1, 1][tallest - 1],
        Level::Portable => 1,
    };
    let mut p = columns.start;
    while p < columns.end {
        let mut width = widest;
        while width > columns.end - p {
            width /= 2;
        }
        for block in &blocks {
            let row = rows.start + block.start;
            // SAFETY: within the operands by the caller's promise.
            unsafe {
                let tile = Tile {
                    left: left.data.as_ptr().wrapping_add(row * left.row_stride),
                    row_stride: left.row_stride,
                    step_stride: left.step_stride,
                    right: right.data.as_ptr().wrapping_add(p * right.panel_stride),
                    right_step: right.step_stride,
                    panel_stride: right.panel_stride,
                    k,
                    out: out.data.add(row * out.stride + p * LANES),
                    out_stride: out.stride,
                    last: (n - (p + width - 1) * LANES).min(LANES),
                    add: out.mode == Write::Add,
                };
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => x86::tile512(block.len(), width, &tile),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => x86::tile256(block.len(), width, &tile),
                    _ => portable_tile(block.len(), &tile),
                }
            }
        }
        p += width;
    }
}

/// The safe-arithmetic twin of the intrinsics: one panel, up to 4 rows.
///
/// # Safety
/// The tile must lie within its operands.
unsafe fn portable_tile(rows: usize, t: &Tile) {
    let mut acc = [[0.0_f32; LANES]; 4];
    // SAFETY: by the caller's promise.
    unsafe {
        if t.add {
            for (r, acc) in acc.iter_mut().enumerate().take(rows) {
                for (l, a) in acc.iter_mut().enumerate().take(t.last) {
                    *a = *t.out.add(r * t.out_stride + l);
                }
            }
        }
        for i in 0..t.k {
            let w = &*t.right.add(i * t.right_step).cast::<[f32; LANES]>();
            for (r, acc) in acc.iter_mut().enumerate().take(rows) {
                let x = *t.left.add(r * t.row_stride + i * t.step_stride);
                for l in 0..LANES {
                    acc[l] = x.mul_add(w[l], acc[l]);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate().take(rows) {
            for (l, a) in acc.iter().enumerate().take(t.last) {
                *t.out.add(r * t.out_stride + l) = *a;
            }
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;
