//! From action values to an action.

use krystal_math::rng::SplitMix64;
use krystal_math::sampling::draw;
pub use krystal_phase::boltzmann::entropy;
use serde::{Deserialize, Serialize};

use crate::elementary::exp;
use crate::error::{Error, Result, require};
use crate::real::Real;

/// The best of `values`; of equals the first, or one drawn at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// The one with the lowest index.
    #[default]
    First,
    /// Each with the same probability; takes a number from the generator even where there is one best.
    Random,
}

/// The index of the greatest value; of equals the first.
///
/// # Errors
/// [`Error::NoActions`] without values, [`Error::NotFinite`] for a value that is not finite.
pub fn greedy<R: Real>(values: &[R]) -> Result<usize> {
    check(values)?;
    Ok(best(values))
}

/// As [`greedy`], but of equals one at random.
///
/// # Errors
/// As [`greedy`].
pub fn greedy_random_ties<R: Real>(values: &[R], rng: &mut SplitMix64) -> Result<usize> {
    check(values)?;
    let best = values[best(values)];
    let n_best = values.iter().filter(|q| **q == best).count();
    let mut skip = rng.below(n_best as u64);
    let is_chosen = |q: &R| {
        *q == best && {
            let chosen = skip == 0;
            skip = skip.wrapping_sub(1);
            chosen
        }
    };
    Ok(values.iter().position(is_chosen).unwrap_or(0))
}

/// With probability `epsilon` any action, all alike; else the best.
///
/// # Errors
/// As [`greedy`], and [`Error::Setting`] unless `0 <= epsilon <= 1`.
pub fn epsilon_greedy<R: Real>(values: &[R], epsilon: f64, ties: Ties, rng: &mut SplitMix64) -> Result<usize> {
    require((0.0..=1.0).contains(&epsilon), "epsilon", "from 0 to 1", epsilon)?;
    check(values)?;
    if rng.uniform() < epsilon {
        return Ok(rng.below(values.len() as u64) as usize);
    }
    match ties {
        Ties::First => Ok(best(values)),
        Ties::Random => greedy_random_ties(values, rng),
    }
}

/// Writes the probabilities with which [`epsilon_greedy`] takes each action.
///
/// # Errors
/// As [`epsilon_greedy`], and [`Error::Length`] for another number of probabilities.
pub fn epsilon_greedy_probabilities<R: Real>(
    values: &[R],
    epsilon: f64,
    ties: Ties,
    probabilities: &mut [f64],
) -> Result<()> {
    require((0.0..=1.0).contains(&epsilon), "epsilon", "from 0 to 1", epsilon)?;
    check(values)?;
    crate::error::require_len("probabilities", values.len(), probabilities.len())?;
    let first = best(values);
    let n_best = match ties {
        Ties::First => 1,
        Ties::Random => values.iter().filter(|q| **q == values[first]).count(),
    };
    for (i, (p, q)) in probabilities.iter_mut().zip(values).enumerate() {
        let is_best = if ties == Ties::First { i == first } else { *q == values[first] };
        *p = epsilon / values.len() as f64 + if is_best { (1.0 - epsilon) / n_best as f64 } else { 0.0 };
    }
    Ok(())
}

/// Writes `exp(q / temperature) / Z`.
///
/// The greatest value is subtracted first, so that no temperature overflows; at temperature 0, or one so small that nothing else has
/// weight, the best actions share all of it. The bits are the same on every machine.
///
/// # Errors
/// As [`greedy`], [`Error::Setting`] for a temperature that is negative or not finite, and [`Error::Length`] for another number of
/// probabilities.
pub fn softmax<R: Real>(values: &[R], temperature: f64, probabilities: &mut [f64]) -> Result<()> {
    require(
        temperature >= 0.0 && temperature.is_finite(),
        "temperature",
        "a finite number of at least 0",
        temperature,
    )?;
    check(values)?;
    crate::error::require_len("probabilities", values.len(), probabilities.len())?;
    let best = values[best(values)].to_f64();
    // 0 / 0 would be NaN: the best have weight 1 at every temperature.
    let temperature = temperature.max(f64::MIN_POSITIVE);
    for (p, q) in probabilities.iter_mut().zip(values) {
        *p = exp((q.to_f64() - best) / temperature);
    }
    let sum: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|p| *p /= sum);
    Ok(())
}

/// An index drawn with these probabilities, which sum to 1 but for rounding.
///
/// # Errors
/// [`Error::NoActions`] without probabilities, [`Error::NotFinite`] for one that is not finite.
pub fn sample(probabilities: &[f64], rng: &mut SplitMix64) -> Result<usize> {
    check(probabilities)?;
    Ok(draw(probabilities, rng.uniform()))
}

/// The index of the greatest; of equals the first. There is at least one.
pub(crate) fn best<R: Real>(values: &[R]) -> usize {
    let mut best = 0;
    for (i, q) in values.iter().enumerate() {
        if *q > values[best] {
            best = i;
        }
    }
    best
}

fn check<R: Real>(values: &[R]) -> Result<()> {
    if values.is_empty() {
        return Err(Error::NoActions);
    }
    crate::features::check_finite("action value", values)
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::Purpose;

    use super::*;

    #[test]
    fn softmax_is_the_formula() {
        // numpy, exp(q / .5) / sum.
        let mut p = [0.0; 3];
        softmax(&[1.0, 2.0, 3.0], 0.5, &mut p).unwrap();
        let expected = [0.015_876_239_976_47, 0.117_310_427_826_2, 0.866_813_332_197_33];
        assert!(p.iter().zip(expected).all(|(p, e)| (p - e).abs() < 1e-14), "{p:?}");
        assert!((entropy(&p) - 0.441_057_444_058_16).abs() < 1e-14);
    }

    #[test]
    fn softmax_has_limits_and_no_overflow() {
        let mut p = [0.0; 3];
        for temperature in [0.0, f64::MIN_POSITIVE, 1e-3] {
            softmax(&[-1e300, 7.0, 7.0], temperature, &mut p).unwrap();
            assert_eq!(p, [0.0, 0.5, 0.5]);
        }
        softmax(&[1e300, -1e300, 0.0], 1e-300, &mut p).unwrap();
        assert_eq!(p, [1.0, 0.0, 0.0]);
        softmax(&[1.0_f32, -2.0, 0.0], 1e300, &mut p).unwrap();
        assert!(p.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-12));
        assert!(matches!(softmax(&[1.0], f64::NAN, &mut p[..1]), Err(Error::Setting { .. })));
        assert!(matches!(softmax(&[f64::NAN], 1.0, &mut p[..1]), Err(Error::NotFinite { .. })));
        assert!(matches!(softmax::<f64>(&[], 1.0, &mut []), Err(Error::NoActions)));
    }

    /// Chi-square at the 1 - 10^-6 quantiles: false alarms about 3 in 10^6.
    #[test]
    fn actions_are_drawn_with_their_probabilities() {
        let mut rng = SplitMix64::stream(5, Purpose::SelfCheck, 0, 0);
        let n = 200_000;
        let values = [0.3, 0.9, 0.9, -1.0];
        let chi2 = |expected: &[f64; 4], counts: &[u32; 4]| -> f64 {
            let of = |(p, count): (&f64, &u32)| (f64::from(*count) - p * f64::from(n)).powi(2) / (p * f64::from(n));
            expected.iter().zip(counts).map(of).sum()
        };
        for ties in [Ties::First, Ties::Random] {
            let (mut counts, mut p) = ([0; 4], [0.0; 4]);
            epsilon_greedy_probabilities(&values, 0.2, ties, &mut p).unwrap();
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-15);
            (0..n).for_each(|_| counts[epsilon_greedy(&values, 0.2, ties, &mut rng).unwrap()] += 1);
            assert!(chi2(&p, &counts) < 30.7, "{counts:?} for {p:?}");
        }
        let (mut counts, mut p) = ([0; 4], [0.0; 4]);
        softmax(&values, 0.7, &mut p).unwrap();
        (0..n).for_each(|_| counts[sample(&p, &mut rng).unwrap()] += 1);
        assert!(chi2(&p, &counts) < 30.7, "{counts:?} for {p:?}");
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0]).unwrap(), 1);
        assert_eq!(greedy(&[-0.0, 0.0]).unwrap(), 0);
        assert!(matches!(greedy::<f64>(&[]), Err(Error::NoActions)));
        assert!(matches!(greedy(&[1.0, f32::INFINITY]), Err(Error::NotFinite { index: 1, .. })));
    }

    #[test]
    fn nothing_is_drawn_that_is_impossible() {
        let mut rng = SplitMix64::stream(5, Purpose::SelfCheck, 1, 0);
        for _ in 0..1000 {
            assert_eq!(sample(&[0.0, 1.0 - 1e-12, 0.0], &mut rng).unwrap(), 1);
        }
    }
}
