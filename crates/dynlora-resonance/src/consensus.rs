//! What a set of gradients agrees on, seen from each of them without itself.
//!
//! Letters: n gradients of length P, `u_i = g_i / |g_i|`, `U = sum u_i`, `E` the remembered direction.

/// Elements that are handled at once: their sum stays in the first-level cache.
const BLOCK: usize = 1024;

/// Independent partial sums, so that the compiler may use vectors without changing the order of additions.
const LANES: usize = 8;

/// The mean resultant length of n directions without its bias: `sqrt(max(0, (n R^2 - 1) / (n - 1)))`, `R = |sum u_i| / n`.
///
/// n random directions of many dimensions have `R = 1 / sqrt(n)`, not 0, and 0 after the correction; n equal ones have 1.
/// `None` for fewer than two.
///
/// ```
/// use dynlora_resonance::debiased_resultant;
///
/// assert_eq!(debiased_resultant(8.0, 8), Some(1.0));
/// assert_eq!(debiased_resultant(8.0_f64.sqrt() * 0.9, 8), Some(0.0));
/// ```
pub fn debiased_resultant(length_of_sum: f64, n: usize) -> Option<f64> {
    if n < 2 {
        return None;
    }
    let n = n as f64;
    let resultant = length_of_sum / n;
    Some(((n * resultant * resultant - 1.0) / (n - 1.0)).max(0.0).sqrt().min(1.0))
}

/// The norm, or `None` for what is not a direction: zero, or a value that is not finite. Squares of f32 fit f64 always.
pub(crate) fn norm(values: &[f32]) -> Option<f64> {
    let squares = sum_blocks(values.len(), |index| {
        let value = f64::from(values[index]);
        value * value
    });
    // NaN and infinity stay in a sum of squares.
    (squares.is_finite() && squares > 0.0).then(|| squares.sqrt())
}

pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    let length = left.len().min(right.len());
    let (left, right) = (&left[..length], &right[..length]);
    sum_blocks(length, |index| f64::from(left[index]) * f64::from(right[index]))
}

/// A sum in a fixed order of [`LANES`] partial sums.
#[inline(always)]
fn sum_blocks(length: usize, term: impl Fn(usize) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let whole = length - length % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for index in whole..length {
        lanes[index - whole] += term(index);
    }
    lanes.iter().sum()
}

/// Products of one direction with the others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Own {
    /// `u_i . U`.
    with_total: f64,
    /// `u_i . E`.
    with_memory: f64,
    /// `sum_p u_ip^2 (U - u_i)_p^2`: the variance of `u_i . (U - u_i)` under random signs of the coordinates.
    flips: f64,
}

/// All products that the cosines of n gradients with their leave-one-out consensus need; two passes over n P numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Products {
    total: f64,
    memory: f64,
    total_memory: f64,
    own: Vec<Own>,
}

/// How one direction stands to the consensus of the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Alignment {
    /// The cosine.
    pub(crate) cosine: f64,
    /// Its variance under random signs.
    pub(crate) flips: f64,
}

impl Products {
    /// The products of `gradients` with these inverse norms, in the order given; `memory` is `E` if there is one.
    pub(crate) fn new(gradients: &[&[f32]], inverse_norms: &[f64], memory: Option<&[f32]>) -> Self {
        let length = gradients.first().map_or(0, |gradient| gradient.len());
        let mut products = Self { own: vec![Own::default(); gradients.len()], ..Self::default() };
        let mut block = [0.0_f64; BLOCK];
        for start in (0..length).step_by(BLOCK) {
            let end = (start + BLOCK).min(length);
            let total = &mut block[..end - start];
            total.fill(0.0);
            for (gradient, inverse) in gradients.iter().zip(inverse_norms) {
                for (total, value) in total.iter_mut().zip(&gradient[start..end]) {
                    *total += f64::from(*value) * inverse;
                }
            }
            let total = &*total;
            products.total += sum_blocks(total.len(), |index| total[index] * total[index]);
            let memory = memory.map(|memory| &memory[start..end]);
            if let Some(memory) = memory {
                products.memory += dot(memory, memory);
                products.total_memory += sum_blocks(total.len(), |index| total[index] * f64::from(memory[index]));
            }
            for ((gradient, inverse), own) in gradients.iter().zip(inverse_norms).zip(&mut products.own) {
                let gradient = &gradient[start..end];
                let (mut with_total, mut flips) = ([0.0; LANES], [0.0; LANES]);
                let mut add = |lane: usize, value: f32, total: f64| {
                    let unit = f64::from(value) * inverse;
                    let product = unit * total;
                    with_total[lane] += product;
                    let without = product - unit * unit;
                    flips[lane] += without * without;
                };
                let (mut values, mut totals) = (gradient.chunks_exact(LANES), total.chunks_exact(LANES));
                for (values, totals) in (&mut values).zip(&mut totals) {
                    for lane in 0..LANES {
                        add(lane, values[lane], totals[lane]);
                    }
                }
                for (lane, (value, total)) in values.remainder().iter().zip(totals.remainder()).enumerate() {
                    add(lane, *value, *total);
                }
                own.with_total += with_total.iter().sum::<f64>();
                own.flips += flips.iter().sum::<f64>();
                if let Some(memory) = memory {
                    own.with_memory += dot(gradient, memory) * inverse;
                }
            }
        }
        products
    }

    /// `|U|`.
    pub(crate) fn length_of_total(&self) -> f64 {
        self.total.max(0.0).sqrt()
    }

    /// How direction `index` stands to `normalise(w V + (1 - w) E / |E|)`, `V` being the unit sum of the other directions;
    /// `w` is 1 without a memory. `None` if the others cancel and nothing is remembered.
    pub(crate) fn alignment(&self, index: usize, w: f64) -> Option<Alignment> {
        let own = self.own[index];
        // |U - u_i|^2 from the products; below its rounding it is nothing.
        let others = self.total - 2.0 * own.with_total + 1.0;
        let others = if others > 1e-9 { others.sqrt() } else { 0.0 };
        let memory = self.memory.max(0.0).sqrt();
        let (mut cosine, mut norm_squared, mut flips) = (0.0, 0.0, 0.0);
        let w = if memory > 0.0 { w } else { 1.0 };
        if others > 0.0 {
            cosine += w * (own.with_total - 1.0) / others;
            norm_squared += w * w;
            flips = own.flips / (others * others);
        }
        if memory > 0.0 {
            cosine += (1.0 - w) * own.with_memory / memory;
            norm_squared += (1.0 - w) * (1.0 - w);
            if others > 0.0 {
                let between = (self.total_memory - own.with_memory) / (others * memory);
                norm_squared += 2.0 * w * (1.0 - w) * between;
            }
        }
        if norm_squared < 1e-9 {
            return None;
        }
        let cosine = (cosine / norm_squared.sqrt()).clamp(-1.0, 1.0);
        Some(Alignment { cosine, flips: flips.clamp(0.0, 1.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_products_give_the_cosines_of_the_definition() {
        let (n, length) = (5, BLOCK + 13);
        let value = |i: usize, p: usize| ((i * 7919 + p * 104_729 + i * p) % 997) as f32 / 500.0 - 0.9;
        let gradients: Vec<Vec<f32>> = (0..n).map(|i| (0..length).map(|p| value(i, p)).collect()).collect();
        let memory: Vec<f32> = (0..length).map(|p| value(17, p) * 0.01).collect();
        let views: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
        let inverse: Vec<f64> = views.iter().map(|view| 1.0 / norm(view).unwrap()).collect();
        for (w, memory) in [(1.0, None), (0.5, Some(memory.as_slice())), (0.25, Some(memory.as_slice()))] {
            let products = Products::new(&views, &inverse, memory);
            for i in 0..n {
                let others: Vec<f64> = (0..length)
                    .map(|p| (0..n).filter(|j| *j != i).map(|j| f64::from(gradients[j][p]) * inverse[j]).sum())
                    .collect();
                let length_of = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
                let size = length_of(&others);
                let unit: Vec<f64> = others.iter().map(|x| x / size).collect();
                let mixed: Vec<f64> = match memory {
                    None => unit.clone(),
                    Some(memory) => {
                        let size = norm(memory).unwrap();
                        unit.iter().zip(memory).map(|(x, m)| w * x + (1.0 - w) * f64::from(*m) / size).collect()
                    }
                };
                let own: Vec<f64> = gradients[i].iter().map(|x| f64::from(*x) * inverse[i]).collect();
                let expected = own.iter().zip(&mixed).map(|(x, y)| x * y).sum::<f64>() / length_of(&mixed);
                let flips: f64 = own.iter().zip(&unit).map(|(x, y)| x * x * y * y).sum();
                let found = products.alignment(i, w).unwrap();
                assert!((found.cosine - expected).abs() < 1e-9, "{} {expected}", found.cosine);
                assert!((found.flips - flips).abs() < 1e-9 * flips.max(1.0), "{} {flips}", found.flips);
            }
        }
    }

    #[test]
    fn what_is_no_direction_has_no_norm() {
        assert_eq!(norm(&[3.0, 4.0]), Some(5.0));
        assert_eq!(norm(&[0.0; 9]), None);
        assert_eq!(norm(&[1.0, f32::NAN]), None);
        assert_eq!(norm(&[f32::NEG_INFINITY]), None);
        assert_eq!(norm(&[]), None);
        // Neither the largest nor the smallest numbers leave the range of the sums.
        assert!(norm(&[f32::MAX; 100]).unwrap() > 3e39);
        assert!(norm(&[1e-45]).unwrap() > 0.0);
    }

    #[test]
    fn others_that_cancel_are_no_consensus() {
        let (a, b, c) = ([1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]);
        let products = Products::new(&[&a, &b, &c], &[1.0; 3], None);
        assert_eq!(products.alignment(2, 1.0), None);
        assert!(products.alignment(0, 1.0).unwrap().cosine < -0.7);
    }

    #[test]
    fn the_resultant_is_unbiased() {
        assert_eq!(debiased_resultant(1.0, 1), None);
        // |sum|^2 of n random unit vectors with pairwise cosine c is n + n (n - 1) c.
        let (n, cosine) = (8.0_f64, 0.04);
        let found = debiased_resultant((n + n * (n - 1.0) * cosine).sqrt(), 8).unwrap();
        assert!((found - 0.2).abs() < 1e-12, "{found}");
    }
}
