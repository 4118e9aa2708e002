use super::*;

fn numbers(len: usize, salt: u64) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The definition: one chain of fused multiply-adds per element.
fn naive(
    m: usize,
    n: usize,
    k: usize,
    left: impl Fn(usize, usize) -> f32,
    right: impl Fn(usize, usize) -> f32,
    start: &[f32],
) -> Vec<f32> {
    let mut out = start.to_vec();
    for r in 0..m {
        for j in 0..n {
            let mut acc = start[r * n + j];
            for i in 0..k {
                acc = left(r, i).mul_add(right(i, j), acc);
            }
            out[r * n + j] = acc;
        }
    }
    out
}

#[test]
fn all_products_equal_the_definition_bit_for_bit() {
    for (m, n, k) in [
        (1, 1, 1),
        (1, 40, 7),
        (2, 300, 33),
        (3, 130, 16),
        (5, 17, 64),
        (8, 96, 40),
        (13, 31, 9),
        (26, 50, 3),
        (300, 48, 20),
        (7, 5, 0),
    ] {
        let (x, w, dy) = (numbers(m * k, 1), numbers(n * k, 2), numbers(m * n, 3));
        let panels = Panels::pack(&w, n, k);
        for (mode, y0, x0, w0) in [
            (Write::Replace, vec![0.0; m * n], vec![0.0; m * k], vec![0.0; n * k]),
            (Write::Add, numbers(m * n, 4), numbers(m * k, 5), numbers(n * k, 6)),
        ] {
            let mut y = y0.clone();
            linear(&x, m, &panels, &mut y, mode);
            assert_eq!(y, naive(m, n, k, |r, i| x[r * k + i], |i, j| w[j * k + i], &y0), "linear {m} {n} {k}");
            let mut dx = x0.clone();
            linear_backward(&dy, m, &panels, &mut dx, mode);
            assert_eq!(
                dx,
                naive(m, k, n, |r, i| dy[r * n + i], |i, j| w[i * k + j], &x0),
                "linear_backward {m} {n} {k}"
            );
            let mut dw = w0.clone();
            weight_gradient(&dy, n, &x, k, m, &mut dw, mode);
            assert_eq!(
                dw,
                naive(n, k, m, |r, i| dy[i * n + r], |i, j| x[i * k + j], &w0),
                "weight_gradient {m} {n} {k}"
            );
        }
    }
}

#[test]
fn every_instruction_set_returns_the_same_bits() {
    let (m, n, k) = (29, 150, 70);
    let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
    let panels = Panels::pack(&w, n, k);
    let start = numbers(m * n, 3);
    let run = |level: Level| {
        let mut out = start.clone();
        let target = Output { data: out.as_mut_ptr(), stride: n, mode: Write::Add };
        // SAFETY: shapes as packed; only levels that the processor offers are run.
        unsafe {
            sweep(level, 0..m, 0..n.div_ceil(LANES), n, k, Left::rows(&x, k), Right::panels(panels.steps(), k), target)
        };
        out
    };
    let portable = run(Level::Portable);
    for level in [Level::Avx2, Level::Avx512] {
        if level <= Level::detect() {
            assert_eq!(run(level), portable, "{level:?}");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours_or_on_threads() {
    let (m, n, k) = (200, 160, 96);
    let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
    let panels = Panels::pack(&w, n, k);
    let mut all = vec![0.0; m * n];
    linear(&x, m, &panels, &mut all, Write::Replace);
    for r in [0, 1, 77, 199] {
        let mut one = vec![0.0; n];
        linear(&x[r * k..(r + 1) * k], 1, &panels, &mut one, Write::Replace);
        assert_eq!(one, all[r * n..(r + 1) * n]);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a pool");
    let mut parallel = vec![0.0; m * n];
    pool.install(|| linear(&x, m, &panels, &mut parallel, Write::Replace));
    assert_eq!(all, parallel);
}
