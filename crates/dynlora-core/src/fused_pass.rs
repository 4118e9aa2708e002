//! The arithmetic of a step, row by row, so that a row is in the first-level cache from its first pass to its last.
//!
//! Every function is one plain loop over slices, which the compiler turns into vector instructions; sums are kept in
//! [`LANES`] partial sums. None is inlined: the vectoriser relies on what it knows of a function's arguments. Loops that do several sums at once are left alone by the vectoriser and cost three times as much
//! as one loop for each. What a row's results are depends on the row alone, so they have the same bits everywhere.

/// Partial sums of a row.
const LANES: usize = 16;
/// Beyond this a gradient's square or its product with a parameter could leave single precision.
const MAX_GRADIENT: f32 = 1e12;
/// Numbers below about 1e-27 become zero by adding and subtracting this, and those above 1e-12 keep all their bits:
/// arithmetic on subnormals takes a hundred times as long, and this is cheaper than comparing.
const FLUSH: f32 = 1e-20;
/// Added to the second moment for the same reason: its root adds up to 3e-14 and stands beside `adam_eps`.
const LEAST_SECOND: f32 = 1e-30;
const BIT: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

#[inline(always)]
fn flush(x: f32) -> f32 {
    (x + FLUSH) - FLUSH
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
    let v = *second * c.beta2 + g * g * c.one_minus_beta2 + LEAST_SECOND;
    *first = m;
    *second = v;
    c.step * m / (v.sqrt() * c.root + c.eps)
}

/// The step that Adam asks for, to be subtracted: into `asked`, and the moments move on.
#[inline(never)]
pub(crate) fn ask_adam(gradient: &[f32], first: &mut [f32], second: &mut [f32], c: &AdamRates, asked: &mut [f32]) {
    for (((asked, g), m), v) in asked.iter_mut().zip(gradient).zip(first).zip(second) {
        *asked = adam(*g, m, v, c);
    }
}

/// The step that gradient descent asks for.
#[inline(never)]
pub(crate) fn ask_sgd(gradient: &[f32], rate: f32, asked: &mut [f32]) {
    for (asked, g) in asked.iter_mut().zip(gradient) {
        *asked = rate * bounded(*g);
    }
}

/// How far a row goes: `theta <- keep theta - rate asked`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepRates {
    pub(crate) keep: f32,
    pub(crate) rate: f32,
    /// What SCREENED entries have in addition, where entries have phases of their own.
    pub(crate) screened_keep: f32,
    pub(crate) screened_rate: f32,
}

#[inline(always)]
fn step_one(theta: f32, asked: f32, r: &StepRates) -> f32 {
    flush(theta * r.keep - asked * r.rate)
}

#[inline(always)]
fn step_one_of_phase(theta: f32, asked: f32, screened: f32, r: &StepRates) -> f32 {
    flush(theta * (r.keep + screened * r.screened_keep) - asked * (r.rate + screened * r.screened_rate))
}

/// Applies a step to a row whose entries share a phase.
#[inline(never)]
pub(crate) fn apply_whole(theta: &mut [f32], asked: &[f32], rates: &StepRates) {
    let r = *rates;
    for (theta, asked) in theta.iter_mut().zip(asked) {
        *theta = step_one(*theta, *asked, &r);
    }
}

/// Applies a step to a row whose entries have phases of their own: `screened` is 0 or 1.
#[inline(never)]
pub(crate) fn apply_each(theta: &mut [f32], asked: &[f32], screened: &[f32], rates: &StepRates) {
    let r = *rates;
    for ((theta, asked), screened) in theta.iter_mut().zip(asked).zip(screened) {
        *theta = step_one_of_phase(*theta, *asked, *screened, &r);
    }
}

/// Adam's moments of a row.
#[derive(Debug)]
pub(crate) struct MomentRow<'a> {
    pub(crate) first: &'a mut [f32],
    pub(crate) second: &'a mut [f32],
}

/// [`ask_adam`] and [`apply_whole`] at once: the divider is what Adam waits for, and the rest goes on meanwhile.
#[inline(never)]
pub(crate) fn adam_whole(
    theta: &mut [f32],
    gradient: &[f32],
    moments: MomentRow<'_>,
    asked: &mut [f32],
    c: &AdamRates,
    rates: &StepRates,
) {
    let (c, r) = (*c, *rates);
    let MomentRow { first, second } = moments;
    for ((((theta, g), m), v), asked) in theta.iter_mut().zip(gradient).zip(first).zip(second).zip(asked) {
        let step = adam(*g, m, v, &c);
        *asked = step;
        *theta = step_one(*theta, step, &r);
    }
}

/// [`ask_adam`] and [`apply_each`] at once.
#[inline(never)]
pub(crate) fn adam_each(
    theta: &mut [f32],
    gradient: &[f32],
    moments: MomentRow<'_>,
    (asked, screened): (&mut [f32], &[f32]),
    c: &AdamRates,
    rates: &StepRates,
) {
    let (c, r) = (*c, *rates);
    let MomentRow { first, second } = moments;
    let rows = theta.iter_mut().zip(gradient).zip(first).zip(second).zip(asked).zip(screened);
    for (((((theta, g), m), v), asked), screened) in rows {
        let step = adam(*g, m, v, &c);
        *asked = step;
        *theta = step_one_of_phase(*theta, step, *screened, &r);
    }
}

/// Mixes `|theta g|` into the activities of single parameters.
#[inline(never)]
pub(crate) fn note_activity(activity: &mut [f32], theta: &[f32], gradient: &[f32], gain: f32) {
    for ((activity, theta), g) in activity.iter_mut().zip(theta).zip(gradient) {
        let saliency = (*theta * bounded(*g)).abs();
        *activity = flush(*activity + (saliency - *activity) * gain);
    }
}

/// Writes bits as 0 or 1.
#[inline(never)]
pub(crate) fn unpack(bits: &[u8], screened: &mut [f32]) {
    let (blocks, tail) = screened.as_chunks_mut::<8>();
    for (block, byte) in blocks.iter_mut().zip(bits) {
        let byte = u32::from(*byte);
        for (value, bit) in block.iter_mut().zip(BIT) {
            *value = if byte & bit != 0 { 1.0 } else { 0.0 };
        }
    }
    for (i, value) in tail.iter_mut().enumerate() {
        *value = f32::from(bits[bits.len() - 1] >> i & 1);
    }
}

/// Turns phases, as 0 or 1, into those that activities ask for: SCREENED above `enter`, or above `leave` if it was before.
#[inline(never)]
pub(crate) fn schmitt(activity: &[f32], screened: &mut [f32], enter: f32, leave: f32) {
    for (phase, activity) in screened.iter_mut().zip(activity) {
        let limit = if *phase != 0.0 { leave } else { enter };
        *phase = if *activity > limit { 1.0 } else { 0.0 };
    }
}

/// Packs phases, as 0 or 1, into bits.
#[inline(never)]
pub(crate) fn pack(screened: &[f32], bits: &mut [u8]) {
    for (block, byte) in screened.chunks(8).zip(bits) {
        *byte = block.iter().enumerate().fold(0, |byte, (i, phase)| byte | u8::from(*phase != 0.0) << i);
    }
}

#[inline(always)]
fn sum_over(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    let (x_blocks, x_tail) = x.as_chunks::<LANES>();
    let (y_blocks, y_tail) = y.as_chunks::<LANES>();
    for (x, y) in x_blocks.iter().zip(y_blocks) {
        for lane in 0..LANES {
            lanes[lane] += term(x[lane], y[lane]);
        }
    }
    // Apart from the lanes, which can stay in registers so.
    let tail: f64 = x_tail.iter().zip(y_tail).map(|(x, y)| f64::from(term(*x, *y))).sum();
    lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + tail
}

/// `sum |theta g|`.
#[inline(never)]
pub(crate) fn path(theta: &[f32], gradient: &[f32]) -> f64 {
    sum_over(theta, gradient, |theta, g| (theta * bounded(g)).abs())
}

/// `sum x`.
#[inline(never)]
pub(crate) fn total(x: &[f32]) -> f64 {
    sum_over(x, x, |x, _| x)
}

/// `sum x^2`.
#[inline(never)]
pub(crate) fn squares(x: &[f32]) -> f64 {
    sum_over(x, x, |x, _| x * x)
}

/// `sum x^2` where `screened` is 1.
#[inline(never)]
pub(crate) fn squares_where(x: &[f32], screened: &[f32]) -> f64 {
    sum_over(x, screened, |x, screened| x * x * screened)
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, StreamRng, stream_rng};
    use rand::RngExt;

    use super::*;

    const ADAM: AdamRates = AdamRates {
        strength: 1.0,
        one_minus_beta1: 0.1,
        beta2: 0.999,
        one_minus_beta2: 0.001,
        step: 0.01 / 0.19,
        root: 22.37,
        eps: 1e-8,
    };

    fn numbers(rng: &mut StreamRng, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * (rng.random::<f32>() - 0.5)).collect()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1e-12), "{a} for {b}");
    }

    #[test]
    fn adam_is_the_textbooks() {
        let c = AdamRates { root: 1.0 / 0.001999_f32.sqrt(), ..ADAM };
        let (mut m, mut v, mut asked) = ([0.02_f32], [0.0004_f32], [0.0_f32]);
        ask_adam(&[0.3], &mut m, &mut v, &c, &mut asked);
        let (m2, v2) = (0.9 * 0.02 + 0.1 * 0.3, 0.999 * 0.0004 + 0.001 * 0.09);
        let exact = 0.01 * (m2 / 0.19) / ((v2 / 0.001999_f64).sqrt() + 1e-8);
        close(f64::from(asked[0]), exact);
    }

    #[test]
    fn every_pass_is_its_scalar_twin() {
        for n in [0, 1, 7, 8, 9, 16, 61, 200] {
            let mut rng = stream_rng(3, Purpose::Task, 0, n as u64);
            let theta = numbers(&mut rng, n, 1.0);
            let gradient = numbers(&mut rng, n, 1e-3);
            let first = numbers(&mut rng, n, 1e-3);
            let second: Vec<f32> = numbers(&mut rng, n, 1e-6).iter().map(|x| x.abs()).collect();
            let activity: Vec<f32> = numbers(&mut rng, n, 1e-3).iter().map(|x| x.abs()).collect();
            let mut bits: Vec<u8> = (0..n.div_ceil(8)).map(|_| rng.random()).collect();
            if let (false, Some(last)) = (n.is_multiple_of(8), bits.last_mut()) {
                *last &= (1 << (n % 8)) - 1;
            }
            let bit = |i: usize| bits[i / 8] >> (i % 8) & 1 != 0;
            let mut screened = vec![9.0; n];
            unpack(&bits, &mut screened);
            assert!((0..n).all(|i| screened[i] == f32::from(u8::from(bit(i)))));
            let mut packed = vec![0; bits.len()];
            pack(&screened, &mut packed);
            assert_eq!(packed, bits);

            let rates = StepRates { keep: 0.99, rate: 1.0, screened_keep: 0.0099, screened_rate: -0.75 };
            let (mut m, mut v, mut asked) = (first.clone(), second.clone(), vec![0.0; n]);
            ask_adam(&gradient, &mut m, &mut v, &ADAM, &mut asked);
            for i in 0..n {
                let g = gradient[i];
                assert_eq!(m[i], first[i] + (g - first[i]) * ADAM.one_minus_beta1);
                assert_eq!(v[i], second[i] * ADAM.beta2 + g * g * ADAM.one_minus_beta2);
                assert_eq!(asked[i], ADAM.step * m[i] / (v[i].sqrt() * ADAM.root + ADAM.eps));
            }
            let (mut whole, mut each) = (theta.clone(), theta.clone());
            apply_whole(&mut whole, &asked, &rates);
            apply_each(&mut each, &asked, &screened, &rates);
            for i in 0..n {
                assert_eq!(whole[i], theta[i] * 0.99 - asked[i]);
                let (keep, rate) = if bit(i) { (0.99 + 0.0099, 0.25) } else { (0.99, 1.0) };
                assert_eq!(each[i], theta[i] * keep - asked[i] * rate);
            }
            // At once or one after another: the same bits.
            let [mut theta1, mut theta2] = [theta.clone(), theta.clone()];
            let [mut m1, mut v1, mut m2, mut v2] = [first.clone(), second.clone(), first.clone(), second.clone()];
            let [mut asked1, mut asked2] = [vec![0.0; n], vec![0.0; n]];
            let row = MomentRow { first: &mut m1, second: &mut v1 };
            adam_whole(&mut theta1, &gradient, row, &mut asked1, &ADAM, &rates);
            let row = MomentRow { first: &mut m2, second: &mut v2 };
            adam_each(&mut theta2, &gradient, row, (&mut asked2, &screened), &ADAM, &rates);
            assert_eq!((&theta1, &m1, &v1, &asked1), (&whole, &m, &v, &asked));
            assert_eq!((&theta2, &m2, &v2, &asked2), (&each, &m, &v, &asked));

            let mut noted = activity.clone();
            note_activity(&mut noted, &theta, &gradient, 0.1);
            let mut wanted = screened.clone();
            schmitt(&noted, &mut wanted, 2e-4, 1e-4);
            for i in 0..n {
                let saliency = (theta[i] * gradient[i]).abs();
                assert_eq!(noted[i], activity[i] + (saliency - activity[i]) * 0.1);
                assert_eq!(wanted[i] != 0.0, noted[i] > if bit(i) { 1e-4 } else { 2e-4 });
            }
            let sum = |term: &dyn Fn(usize) -> f64| (0..n).map(term).sum::<f64>();
            let wide = |x: f32| f64::from(x);
            close(path(&theta, &gradient), sum(&|i| wide(theta[i] * gradient[i]).abs()));
            close(total(&activity), sum(&|i| wide(activity[i])));
            close(squares(&theta), sum(&|i| wide(theta[i]).powi(2)));
            close(squares_where(&theta, &screened), sum(&|i| if bit(i) { wide(theta[i]).powi(2) } else { 0.0 }));
        }
    }

    #[test]
    fn the_largest_and_the_smallest_gradients_stay_finite() {
        let gradient = [f32::MAX, -f32::MAX, 1e-38, -1e-38, 0.0, 1e-20, 1e6, -1e-6, 1.0];
        let (mut m, mut v, mut asked) = ([0.0; 9], [0.0; 9], [0.0; 9]);
        let (mut theta, mut activity) = ([1e3_f32; 9], [0.0; 9]);
        let rates = StepRates { keep: 0.999, rate: 1.0, screened_keep: 0.0, screened_rate: 0.0 };
        for _ in 0..1000 {
            note_activity(&mut activity, &theta, &gradient, 0.1);
            assert!(path(&theta, &gradient).is_finite());
            let row = MomentRow { first: &mut m, second: &mut v };
            adam_whole(&mut theta, &gradient, row, &mut asked, &AdamRates { strength: 2.0, ..ADAM }, &rates);
            assert!(squares(&asked).is_finite());
        }
        let all = theta.iter().chain(&m).chain(&v).chain(&activity);
        assert!(all.into_iter().all(|x| x.is_finite() && !x.is_subnormal()));
    }
}
