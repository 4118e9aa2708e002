//! The peer of our matrix kernels: the crate `gemm`, one thread.
#![allow(
    unsafe_code,
    reason = "gemm's only entry takes raw pointers; `product` checks that they stay within the slices"
)]

/// A matrix in a slice: element `(i, j)` is at `i * row_stride + j * column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Distance of neighbouring rows.
    pub row_stride: usize,
    /// Distance of neighbouring columns.
    pub column_stride: usize,
}

impl View {
    /// Row-major with rows of `columns` elements.
    pub fn rows_of(columns: usize) -> Self {
        Self { row_stride: columns, column_stride: 1 }
    }

    /// The transposed matrix of the same elements.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride }
    }

    fn end(self, rows: usize, columns: usize) -> usize {
        if rows == 0 || columns == 0 {
            return 0;
        }
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride + 1
    }
}

/// `out (m, n) = left (m, k) right (k, n)`, or `out +=` with `add`.
///
/// # Panics
/// If a slice is shorter than its matrix, or elements of `out` overlap.
pub fn product(
    (m, n, k): (usize, usize, usize),
    (out, out_view): (&mut [f32], View),
    (left, left_view): (&[f32], View),
    (right, right_view): (&[f32], View),
    add: bool,
) {
    assert!(out_view.end(m, n) <= out.len(), "out holds {} elements", out.len());
    assert!(left_view.end(m, k) <= left.len(), "left holds {} elements", left.len());
    assert!(right_view.end(k, n) <= right.len(), "right holds {} elements", right.len());
    let (wide, narrow) =
        (out_view.row_stride.max(out_view.column_stride), out_view.row_stride.min(out_view.column_stride));
    let inner = if out_view.row_stride >= out_view.column_stride { n } else { m };
    assert!(narrow >= 1 && wide >= inner * narrow, "elements of out overlap");
    // A slice has at most isize::MAX bytes, so every stride that is used fits.
    let stride = |stride: usize| stride as isize;
    // SAFETY: all elements lie within their slices (asserted), `out` is borrowed exclusively and its elements are distinct
    // (asserted), and the operands are initialised.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            stride(out_view.column_stride),
            stride(out_view.row_stride),
            add,
            left.as_ptr(),
            stride(left_view.column_stride),
            stride(left_view.row_stride),
            right.as_ptr(),
            stride(right_view.column_stride),
            stride(right_view.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orientations_are_the_definition() {
        let (m, n, k) = (5, 7, 3);
        let left: Vec<f32> = (0..m * k).map(|i| i as f32 - 4.0).collect();
        let right: Vec<f32> = (0..n * k).map(|i| (i * i % 11) as f32 - 5.0).collect();
        // `right` is stored (n, k), as weights are.
        let mut expected = vec![0.0; m * n];
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            expected[i * n + j] = (0..k).map(|l| left[i * k + l] * right[j * k + l]).sum();
        }
        let (l, r, o) = (View::rows_of(k), View::rows_of(k), View::rows_of(n));
        let mut out = vec![9.0; m * n];
        product((m, n, k), (&mut out, o), (&left, l), (&right, r.transposed()), false);
        assert_eq!(out, expected);
        product((n, m, k), (&mut out, o.transposed()), (&right, r), (&left, l.transposed()), true);
        assert_eq!(out, expected.iter().map(|x| 2.0 * x).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "left holds 5 elements")]
    fn a_short_slice_is_refused() {
        let view = View::rows_of(3);
        product((2, 3, 3), (&mut [0.0; 6], view), (&[0.0; 5], view), (&[0.0; 9], view), false);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn an_output_that_overlaps_itself_is_refused() {
        let view = View::rows_of(3);
        product((2, 3, 3), (&mut [0.0; 6], View::rows_of(1)), (&[0.0; 6], view), (&[0.0; 9], view), false);
    }
}
