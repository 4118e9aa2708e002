//! Whether this machine adds gradients as it should: within the error bounds, and with the same bits on any number of threads.

use std::convert::Infallible;

use krystal::math::rng::{Purpose, stream_rng};
use krystal::spheres::exact::{SumError, compare};
use krystal::spheres::{ARITY, Accumulation, Attempt, GradientWorker, SphereConfig, SphereHierarchy, height};
use rand::RngExt;
use serde_json::json;

use super::Finding;

pub(super) const NAME: &str = "sum check";

const N_LEAVES: usize = 144;
const N_PARAMETERS: usize = 10_000;
/// Leaves are of magnitudes from `2^-20` to `2^20`.
const EXPONENTS: std::ops::RangeInclusive<i32> = -20..=20;

/// Hands out gradients that are there already.
struct Recorded;

impl GradientWorker for Recorded {
    type Batch = Vec<f32>;
    type Element = f32;
    type Error = Infallible;

    fn n_parameters(&self) -> usize {
        N_PARAMETERS
    }

    fn gradient(&self, batch: &Vec<f32>, _: &Attempt<'_>, out: &mut [f32]) -> Result<(), Infallible> {
        out.copy_from_slice(batch);
        Ok(())
    }
}

/// A sum beside the exact one.
struct Checked {
    error: SumError,
    /// What the error may be, as [`SumError::max_in_u`] has it.
    bound: f64,
    same_bits: bool,
}

pub(super) fn finding() -> anyhow::Result<Finding> {
    let leaves: Vec<Vec<f32>> = (0..N_LEAVES as u64).map(leaf).collect();
    let all = rayon::current_num_threads();
    let plain = check(&leaves, Accumulation::Plain, all)?;
    let compensated = check(&leaves, Accumulation::Compensated, all)?;
    Ok(verdict(&plain, &compensated, all))
}

fn leaf(index: u64) -> Vec<f32> {
    let mut rng = stream_rng(0, Purpose::SelfCheck, index, 0);
    let mut number = || (rng.random::<f32>() - 0.5) * (rng.random_range(EXPONENTS) as f32).exp2();
    (0..N_PARAMETERS).map(|_| number()).collect()
}

fn check(leaves: &[Vec<f32>], accumulation: Accumulation, all: usize) -> anyhow::Result<Checked> {
    let sum = |threads| -> anyhow::Result<Vec<f32>> {
        let config = SphereConfig { threads: Some(threads), accumulation, ..SphereConfig::default() };
        Ok(SphereHierarchy::new(config)?.run(&Recorded, leaves)?.gradient)
    };
    let one = sum(1)?;
    let bits = |sum: &[f32]| -> Vec<u32> { sum.iter().map(|x| x.to_bits()).collect() };
    let same_bits = bits(&one) == bits(&sum(2)?) && bits(&one) == bits(&sum(all)?);
    let sources: Vec<&[f32]> = leaves.iter().map(Vec::as_slice).collect();
    Ok(Checked { error: compare(&one, &sources, &[]), bound: bound(accumulation), same_bits })
}

/// In units of `u = 2^-24` of the sum of magnitudes.
fn bound(accumulation: Accumulation) -> f64 {
    let n = N_LEAVES as f64;
    let second_order = n * n / f64::from(1 << 24);
    second_order
        + match accumulation {
            // A leaf is rounded once for each addition on its way up.
            Accumulation::Plain => f64::from(height(N_LEAVES)) * (ARITY as f64 - 1.0),
            // The sum is rounded once at the end.
            Accumulation::Compensated => 1.0,
        }
}

fn verdict(plain: &Checked, compensated: &Checked, all: usize) -> Finding {
    let within = |checked: &Checked| checked.error.max_in_u <= checked.bound;
    let works = [plain, compensated].iter().all(|checked| within(checked) && checked.same_bits);
    let text = |name: &str, checked: &Checked| {
        let (error, bound) = (checked.error.max_in_u, checked.bound);
        let relation = if within(checked) { "bound" } else { "BEYOND the bound" };
        let bits = if checked.same_bits { "" } else { ", OTHER BITS by threads" };
        format!("{name} {error:.2} u ({relation} {bound:.1}){bits}")
    };
    let same = if works { format!("; the same bits on 1, 2 and {all} threads") } else { String::new() };
    let value = |checked: &Checked| {
        json!({
            "error_in_u": checked.error.max_in_u,
            "bound_in_u": checked.bound,
            "n_differing": checked.error.n_differing,
            "same_bits": checked.same_bits,
        })
    };
    Finding {
        name: NAME,
        works: Some(works),
        text: format!(
            "{N_LEAVES} gradients of {N_PARAMETERS}: {}, {}{same}",
            text("plain", plain),
            text("compensated", compensated)
        ),
        value: json!({ "works": works, "plain": value(plain), "compensated": value(compensated) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(max_in_u: f64, same_bits: bool) -> Checked {
        Checked { error: SumError { max_in_u, ..SumError::default() }, bound: 2.0, same_bits }
    }

    #[test]
    fn this_machine_adds_as_it_should() {
        let found = finding().unwrap();
        assert_eq!(found.works, Some(true), "{}", found.text);
        // The plain sum does lose something, or the check would see nothing.
        assert!(found.value["plain"]["error_in_u"].as_f64().unwrap() > 0.5, "{}", found.value);
        let differing = |name: &str| found.value[name]["n_differing"].as_u64().unwrap();
        assert!(differing("compensated") < differing("plain"), "{}", found.value);
    }

    #[test]
    fn a_machine_that_does_not_is_told() {
        let good = checked(1.5, true);
        assert_eq!(verdict(&good, &good, 4).works, Some(true));
        for (bad, word) in
            [(checked(2.5, true), "BEYOND"), (checked(1.0, false), "OTHER BITS"), (checked(f64::NAN, true), "BEYOND")]
        {
            for found in [verdict(&bad, &good, 4), verdict(&good, &bad, 4)] {
                assert!(found.works == Some(false) && found.text.contains(word), "{}", found.text);
            }
        }
    }
}
