//! One source for every instruction set.
//!
//! A kernel's body is safe Rust over arrays of [`LANES`] floats. [`multiversion!`] compiles it three times: for AVX-512, for
//! AVX2 with FMA, and for the target's baseline (NEON on 64-bit Arm, SSE2 on old x86). `f32::mul_add` rounds once
//! everywhere, and every reduction has a fixed shape, so **all versions return the same bits**.

use std::sync::OnceLock;

/// Floats in a panel: one AVX-512 register, two AVX2 registers, four NEON registers.
pub(crate) const LANES: usize = 16;

/// One aligned row of lanes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

impl Lanes {
    pub(crate) const ZERO: Self = Self([0.0; LANES]);
}

/// The instruction set that the running processor offers, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// The target's baseline.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, BW and DQ.
    Avx512,
}

impl Level {
    /// The level of this processor, detected once. `KRYSTAL_SIMD=portable|avx2` lowers it, for tests and comparisons.
    pub(crate) fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let best = Self::best();
            match std::env::var("KRYSTAL_SIMD").as_deref() {
                Ok("portable") => Self::Portable,
                Ok("avx2") => best.min(Self::Avx2),
                _ => best,
            }
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        match (avx512, avx2) {
            (true, true) => Self::Avx512,
            (false, true) => Self::Avx2,
            _ => Self::Portable,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn best() -> Self {
        Self::Portable
    }
}

/// Compiles `fn name(args) body` for every level and picks at run time.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "calls a version for a detected instruction set; `body` is the safe twin")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::kernels::cpu::simd::Level::detect() {
                    // SAFETY: `detect` returns a level only if the processor has its features.
                    $crate::kernels::cpu::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::cpu::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                    $crate::kernels::cpu::simd::Level::Portable => body($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// `e^x`, lane by lane, within 2 ulp on [-87, 88]; arguments outside are clamped to that range.
///
/// Cody-Waite reduction to `|r| <= ln 2 / 2`, then the Taylor-like minimax polynomial of Cephes `expf`.
#[inline(always)]
pub(crate) fn exp(x: [f32; LANES]) -> [f32; LANES] {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        let x = if x[l] < -87.0 { -87.0 } else { x[l] };
        let x = if x > 88.0 { 88.0 } else { x };
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
        let mut p = 1.987_569_1e-4_f32;
        p = p.mul_add(r, 1.398_199_9e-3);
        p = p.mul_add(r, 8.333_452e-3);
        p = p.mul_add(r, 4.166_579_6e-2);
        p = p.mul_add(r, 1.666_666_5e-1);
        p = p.mul_add(r, 0.5);
        let p = (p * r).mul_add(r, r) + 1.0;
        let scale = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
        out[l] = p * scale;
    }
    out
}

/// The sum of the lanes, always as the same tree.
#[inline(always)]
pub(crate) fn sum(mut v: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            v[l] += v[l + width];
        }
        width /= 2;
    }
    v[0]
}

/// The largest lane.
#[inline(always)]
pub(crate) fn max(mut v: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            v[l] = if v[l + width] > v[l] { v[l + width] } else { v[l] };
        }
        width /= 2;
    }
    v[0]
}

/// The dot product of two equally long slices: lanes first, the remainder in order after them.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let mut acc = [0.0_f32; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for l in 0..LANES {
            acc[l] = a[l].mul_add(b[l], acc[l]);
        }
    }
    for (l, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        acc[l] = a.mul_add(*b, acc[l]);
    }
    sum(acc)
}

#[cfg(test)]
mod tests {
    use super::*;

    multiversion! {
        fn exp_all(x: &[[f32; LANES]], out: &mut [[f32; LANES]]) {
            for (x, o) in x.iter().zip(out) { *o = exp(*x); }
        }
    }

    #[test]
    fn exp_is_within_two_ulp_of_f64() {
        let mut worst = 0.0_f64;
        let xs: Vec<[f32; LANES]> = (0..20_000)
            .map(|i| std::array::from_fn(|l| -87.0 + 175.0 * ((i * LANES + l) as f32) / 320_000.0))
            .collect();
        let mut out = vec![[0.0; LANES]; xs.len()];
        exp_all(&xs, &mut out);
        for (x, e) in xs.iter().flatten().zip(out.iter().flatten()) {
            let exact = f64::from(*x).exp();
            let ulp = exact * f64::from(f32::EPSILON);
            worst = worst.max((f64::from(*e) - exact).abs() / ulp);
        }
        assert!(worst < 2.0, "worst error {worst} ulp");
        assert_eq!(exp([0.0; LANES])[0], 1.0);
    }

    #[test]
    fn every_level_returns_the_same_bits() {
        let xs: Vec<[f32; LANES]> =
            (0..1000).map(|i| std::array::from_fn(|l| (((i * 31 + l * 17) % 997) as f32 - 500.0) / 7.0)).collect();
        let mut best = vec![[0.0; LANES]; xs.len()];
        exp_all(&xs, &mut best);
        let portable: Vec<[f32; LANES]> = xs.iter().map(|x| exp(*x)).collect();
        assert_eq!(best, portable);
    }
}
