//! The arithmetic of a step, row by row: every number is read and written once while its row is in the first-level cache.
//!
//! Each function is a plain loop over slices of one length, or over blocks of [`LANES`] with one partial sum a lane, which
//! the compiler turns into vector instructions. Sums depend on nothing but the row, so results have the same bits
//! everywhere.

use std::array;

/// Partial sums of a row.
pub(crate) const LANES: usize = 8;
/// Beyond this a gradient's square or its product with a parameter could leave single precision.
const MAX_GRADIENT: f32 = 1e12;
/// Below this a number counts as zero: arithmetic on subnormals takes a hundred times as long.
const TINY: f32 = 1e-30;
const BIT: [u32; LANES] = [1, 2, 4, 8, 16, 32, 64, 128];

#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.abs() < TINY { 0.0 } else { x }
}

#[inline(always)]
fn bounded(gradient: f32) -> f32 {
    gradient.clamp(-MAX_GRADIENT, MAX_GRADIENT)
}

/// Adam's constants for a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdamRates {
    /// Factor on the gradient in the first moment alone: a gradient that counts half moves the parameters half as far,
    /// while the second moment keeps the gradients' scale.
    pub(crate) strength: f32,
    pub(crate) one_minus_beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta2: f32,
    /// `eta / (1 - beta1^t)`.
    pub(crate) step: f32,
    /// `1 / sqrt(1 - beta2^t)`.
    pub(crate) root: f32,
    pub(crate) eps: f32,
}

#[inline(always)]
fn adam(gradient: f32, first: &mut f32, second: &mut f32, c: &AdamRates) -> f32 {
    let g = bounded(gradient);
    let m = flush(*first + (g * c.strength - *first) * c.one_minus_beta1);
    let v = flush(*second * c.beta2 + g * g * c.one_minus_beta2);
    *first = m;
    *second = v;
    c.step * m / (v.sqrt() * c.root + c.eps)
}

/// The step that Adam asks for, to be subtracted: into `asked`, and the moments move on.
pub(crate) fn ask_adam(gradient: &[f32], first: &mut [f32], second: &mut [f32], c: &AdamRates, asked: &mut [f32]) {
    for (((asked, g), m), v) in asked.iter_mut().zip(gradient).zip(first).zip(second) {
        *asked = adam(*g, m, v, c);
    }
}

/// The step that gradient descent asks for.
pub(crate) fn ask_sgd(gradient: &[f32], rate: f32, asked: &mut [f32]) {
    for (asked, g) in asked.iter_mut().zip(gradient) {
        *asked = rate * bounded(*g);
    }
}

/// Sums over a row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct RowSums {
    /// `sum |theta g|`.
    pub(crate) path: f64,
    /// `sum theta^2` before the step.
    pub(crate) value2: f64,
    /// `sum theta delta` with the step applied.
    pub(crate) value_delta: f64,
    /// `sum delta^2` of the step applied.
    pub(crate) delta2: f64,
    /// `sum asked^2`; of single parameters' means where they are kept.
    pub(crate) movement: f64,
    /// The part of SCREENED parameters.
    pub(crate) movement_screened: f64,
    /// Sum of single parameters' activities.
    pub(crate) activity: f64,
}

fn total(lanes: [f32; LANES]) -> f64 {
    lanes.iter().map(|lane| f64::from(*lane)).sum()
}

/// Applies a step to a row whose entries share a phase: `theta <- keep theta - rate asked`.
pub(crate) fn apply_whole(theta: &mut [f32], gradient: &[f32], asked: &[f32], keep: f32, rate: f32) -> RowSums {
    let n = theta.len();
    let (gradient, asked) = (&gradient[..n], &asked[..n]);
    let [mut path, mut value2, mut value_delta, mut asked2] = [[0.0_f32; LANES]; 4];
    let mut one = |lane: usize, theta: &mut f32, g: f32, asked: f32| {
        let (old, delta) = (*theta, asked * rate);
        path[lane] += (old * bounded(g)).abs();
        value2[lane] += old * old;
        value_delta[lane] += old * delta;
        asked2[lane] += asked * asked;
        *theta = flush(old * keep - delta);
    };
    let (blocks, tail) = theta.as_chunks_mut::<LANES>();
    let (g_blocks, g_tail) = gradient.as_chunks::<LANES>();
    let (a_blocks, a_tail) = asked.as_chunks::<LANES>();
    for ((theta, g), asked) in blocks.iter_mut().zip(g_blocks).zip(a_blocks) {
        for lane in 0..LANES {
            one(lane, &mut theta[lane], g[lane], asked[lane]);
        }
    }
    for (lane, ((theta, g), asked)) in tail.iter_mut().zip(g_tail).zip(a_tail).enumerate() {
        one(lane, theta, *g, *asked);
    }
    let movement = total(asked2);
    RowSums {
        path: total(path),
        value2: total(value2),
        value_delta: total(value_delta),
        delta2: movement * f64::from(rate) * f64::from(rate),
        movement,
        ..RowSums::default()
    }
}

/// What [`apply_each`] needs beside the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EachRates {
    pub(crate) keep_free: f32,
    pub(crate) keep_screened: f32,
    /// Factor on the step of SCREENED.
    pub(crate) screened_rate: f32,
    pub(crate) activity_gain: f32,
    pub(crate) movement_gain: f32,
    pub(crate) enter: f32,
    pub(crate) leave: f32,
}

/// What single parameters of a row carry.
#[derive(Debug)]
pub(crate) struct EachRow<'a> {
    pub(crate) theta: &'a mut [f32],
    pub(crate) activity: &'a mut [f32],
    pub(crate) movement: &'a mut [f32],
    /// Phases before the step, one bit each.
    pub(crate) phases: &'a [u8],
    /// Phases asked for after it.
    pub(crate) wanted: &'a mut [u8],
}

/// Applies a step to a row whose entries have phases of their own, and notes activity, movement and the phases asked for.
pub(crate) fn apply_each(row: EachRow<'_>, gradient: &[f32], asked: &[f32], c: &EachRates) -> RowSums {
    let EachRow { theta, activity, movement, phases, wanted } = row;
    let n = theta.len();
    let (gradient, asked) = (&gradient[..n], &asked[..n]);
    let mut sums = [[0.0_f32; LANES]; 7];
    let (blocks, tail) = theta.as_chunks_mut::<LANES>();
    let (a_blocks, a_tail) = activity[..n].as_chunks_mut::<LANES>();
    let (u_blocks, u_tail) = movement[..n].as_chunks_mut::<LANES>();
    let (g_blocks, g_tail) = gradient.as_chunks::<LANES>();
    let (s_blocks, s_tail) = asked.as_chunks::<LANES>();
    let bits = phases.iter().zip(wanted.iter_mut());
    for (((((theta, a), u), g), s), (phase, want)) in
        blocks.iter_mut().zip(a_blocks).zip(u_blocks).zip(g_blocks).zip(s_blocks).zip(bits)
    {
        *want = each_block(theta, a, u, g, s, *phase, c, &mut sums);
    }
    if !tail.is_empty() {
        // Zeros beyond the end add nothing to any sum and ask for no phase.
        let padded = |part: &[f32]| -> [f32; LANES] { array::from_fn(|lane| part.get(lane).copied().unwrap_or(0.0)) };
        let (mut theta, mut a, mut u) = (padded(tail), padded(a_tail), padded(u_tail));
        let last = n / LANES;
        let mask = ((1_u32 << tail.len()) - 1) as u8;
        let (g, s) = (padded(g_tail), padded(s_tail));
        wanted[last] = each_block(&mut theta, &mut a, &mut u, &g, &s, phases[last], c, &mut sums) & mask;
        tail.copy_from_slice(&theta[..tail.len()]);
        a_tail.copy_from_slice(&a[..tail.len()]);
        u_tail.copy_from_slice(&u[..tail.len()]);
    }
    let [path, value2, value_delta, delta2, movement, movement_screened, activity] = sums.map(total);
    RowSums { path, value2, value_delta, delta2, movement, movement_screened, activity }
}

#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "one block of each array of a row; a struct of references defeats vectorising"
)]
fn each_block(
    theta: &mut [f32; LANES],
    activity: &mut [f32; LANES],
    movement: &mut [f32; LANES],
    gradient: &[f32; LANES],
    asked: &[f32; LANES],
    phase: u8,
    c: &EachRates,
    sums: &mut [[f32; LANES]; 7],
) -> u8 {
    let phase = u32::from(phase);
    let mut want = 0_u32;
    for lane in 0..LANES {
        let is_screened = phase & BIT[lane] != 0;
        let rate = if is_screened { c.screened_rate } else { 1.0 };
        let keep = if is_screened { c.keep_screened } else { c.keep_free };
        let limit = if is_screened { c.leave } else { c.enter };
        let (old, asked) = (theta[lane], asked[lane]);
        let delta = asked * rate;
        let saliency = (old * bounded(gradient[lane])).abs();
        let a = flush(activity[lane] + (saliency - activity[lane]) * c.activity_gain);
        let u = flush(movement[lane] + (asked * asked - movement[lane]) * c.movement_gain);
        activity[lane] = a;
        movement[lane] = u;
        want |= if a > limit { BIT[lane] } else { 0 };
        theta[lane] = flush(old * keep - delta);
        sums[0][lane] += saliency;
        sums[1][lane] += old * old;
        sums[2][lane] += old * delta;
        sums[3][lane] += delta * delta;
        sums[4][lane] += u;
        sums[5][lane] += if is_screened { u } else { 0.0 };
        sums[6][lane] += a;
    }
    want as u8
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, StreamRng, stream_rng};
    use rand::RngExt;

    use super::*;

    fn numbers(rng: &mut StreamRng, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * (rng.random::<f32>() - 0.5)).collect()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1e-12), "{a} for {b}");
    }

    #[test]
    fn adam_is_the_textbooks() {
        let c = AdamRates {
            strength: 1.0,
            one_minus_beta1: 0.1,
            beta2: 0.999,
            one_minus_beta2: 0.001,
            step: 0.01 / 0.19,
            root: 1.0 / 0.001999_f32.sqrt(),
            eps: 1e-8,
        };
        let (mut m, mut v, mut asked) = ([0.02_f32], [0.0004_f32], [0.0_f32]);
        ask_adam(&[0.3], &mut m, &mut v, &c, &mut asked);
        let (m2, v2) = (0.9 * 0.02 + 0.1 * 0.3, 0.999 * 0.0004 + 0.001 * 0.09);
        let exact = 0.01 * (m2 / 0.19) / ((v2 / 0.001999_f64).sqrt() + 1e-8);
        close(f64::from(asked[0]), exact);
        // Half the strength from rest is half the step.
        let (mut m, mut v, mut half) = ([0.0], [0.0], [0.0]);
        ask_adam(&[0.3], &mut m, &mut v, &AdamRates { strength: 0.5, ..c }, &mut half);
        let (mut m, mut v, mut whole) = ([0.0], [0.0], [0.0]);
        ask_adam(&[0.3], &mut m, &mut v, &c, &mut whole);
        close(f64::from(half[0]), f64::from(whole[0]) / 2.0);
    }

    #[test]
    fn both_passes_are_their_scalar_twins() {
        for n in [0, 1, 7, 8, 9, 16, 61, 200] {
            let mut rng = stream_rng(3, Purpose::Task, 0, n as u64);
            let theta = numbers(&mut rng, n, 1.0);
            let gradient = numbers(&mut rng, n, 1e-3);
            let asked = numbers(&mut rng, n, 1e-2);
            let (keep, rate) = (0.99, 0.25);

            let mut whole = theta.clone();
            let sums = apply_whole(&mut whole, &gradient, &asked, keep, rate);
            let mut expected = RowSums::default();
            for i in 0..n {
                assert_eq!(whole[i], theta[i] * keep - asked[i] * rate);
                expected.path += f64::from(theta[i] * gradient[i]).abs();
                expected.value2 += f64::from(theta[i]).powi(2);
                expected.value_delta += f64::from(theta[i]) * f64::from(asked[i] * rate);
                expected.delta2 += f64::from(asked[i] * rate).powi(2);
            }
            close(sums.path, expected.path);
            close(sums.value2, expected.value2);
            assert!((sums.value_delta - expected.value_delta).abs() <= 1e-6);
            close(sums.delta2, expected.delta2);

            let c = EachRates {
                keep_free: 0.99,
                keep_screened: 0.999,
                screened_rate: 0.25,
                activity_gain: 0.1,
                movement_gain: 0.01,
                enter: 2e-4,
                leave: 1e-4,
            };
            let activity: Vec<f32> = numbers(&mut rng, n, 5e-4).iter().map(|x| x.abs()).collect();
            let movement: Vec<f32> = numbers(&mut rng, n, 1e-4).iter().map(|x| x.abs()).collect();
            let mut phases: Vec<u8> = (0..n.div_ceil(8)).map(|_| rng.random()).collect();
            if let (true, Some(last)) = (n % 8 != 0, phases.last_mut()) {
                *last &= (1 << (n % 8)) - 1;
            }
            let (mut each, mut a, mut u) = (theta.clone(), activity.clone(), movement.clone());
            let mut wanted = vec![0; phases.len()];
            let row =
                EachRow { theta: &mut each, activity: &mut a, movement: &mut u, phases: &phases, wanted: &mut wanted };
            let sums = apply_each(row, &gradient, &asked, &c);
            let mut expected = RowSums::default();
            for i in 0..n {
                let bit = phases[i / 8] >> (i % 8) & 1 != 0;
                let delta = if bit { asked[i] * 0.25 } else { asked[i] };
                assert_eq!(each[i], theta[i] * if bit { 0.999 } else { 0.99 } - delta);
                let saliency = (theta[i] * gradient[i]).abs();
                assert_eq!(a[i], activity[i] + (saliency - activity[i]) * 0.1);
                assert_eq!(u[i], movement[i] + (asked[i] * asked[i] - movement[i]) * 0.01);
                assert_eq!(wanted[i / 8] >> (i % 8) & 1 != 0, a[i] > if bit { 1e-4 } else { 2e-4 });
                expected.path += f64::from(saliency);
                expected.delta2 += f64::from(delta).powi(2);
                expected.movement += f64::from(u[i]);
                expected.movement_screened += if bit { f64::from(u[i]) } else { 0.0 };
                expected.activity += f64::from(a[i]);
            }
            close(sums.path, expected.path);
            close(sums.delta2, expected.delta2);
            close(sums.movement, expected.movement);
            close(sums.movement_screened, expected.movement_screened);
            close(sums.activity, expected.activity);
            if n % 8 != 0 {
                assert_eq!(wanted[n / 8] >> (n % 8), 0, "no bit beyond the end");
            }
        }
    }

    #[test]
    fn the_largest_and_the_smallest_gradients_stay_finite() {
        let c = AdamRates {
            strength: 2.0,
            one_minus_beta1: 0.1,
            beta2: 0.999,
            one_minus_beta2: 0.001,
            step: 1e-3,
            root: 1.0,
            eps: 1e-8,
        };
        let gradient = [f32::MAX, -f32::MAX, 1e-38, -1e-38, 0.0, 1e-20, 1e6, -1e-6, 1.0];
        let (mut m, mut v, mut asked) = ([0.0; 9], [0.0; 9], [0.0; 9]);
        let mut theta = [1e3_f32; 9];
        for _ in 0..1000 {
            ask_adam(&gradient, &mut m, &mut v, &c, &mut asked);
            let sums = apply_whole(&mut theta, &gradient, &asked, 0.999, 1.0);
            assert!(sums.path.is_finite() && sums.delta2.is_finite());
        }
        assert!(theta.iter().chain(&m).chain(&v).all(|x| x.is_finite() && !x.is_subnormal()));
    }
}
