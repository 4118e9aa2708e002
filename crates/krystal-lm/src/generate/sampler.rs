//! One token from one row of logits.

use krystal_math::rng::StreamRng;
use krystal_math::sampling::{self, Sampling};
use rand::RngExt;

use crate::kernels::cpu::log_prob::{Summary, cumulative_draw};

/// Draws a token and returns its log-probability under the temperature alone.
///
/// One uniform number is drawn for every token, whatever the settings, so that settings do not shift the stream. Where no
/// distribution is left (logits that are not numbers, or that overflow when divided by the temperature), the first of the
/// likeliest tokens is taken; its log-probability is what the arithmetic gives, which may be NaN.
pub(super) fn sample(
    logits: &[f32],
    seen: impl FnOnce() -> Vec<u32>,
    sampling: &Sampling,
    rng: &mut StreamRng,
) -> (u32, f32) {
    let u: f64 = rng.random();
    let inverse = if sampling.temperature == 0.0 { 1.0 } else { 1.0 / sampling.temperature };
    let summary = Summary::of_row(logits, inverse);
    let greedy = sampling.temperature == 0.0 || !summary.is_finite();
    let token = if sampling.is_truncated() {
        let seen = if sampling.repetition_penalty == 1.0 { Vec::new() } else { seen() };
        let temperature = if greedy { 0.0 } else { sampling.temperature };
        let sampling = Sampling { temperature, ..sampling.clone() };
        sampling::draw(&sampling::probabilities(logits, &seen, &sampling), u)
    } else if greedy {
        sampling::argmax(logits).unwrap_or(0)
    } else {
        // Past the end, by a rounding error, there is no token: never one that has no weight.
        cumulative_draw(logits, inverse, &summary, u).unwrap_or_else(|| sampling::argmax(logits).unwrap_or(0))
    };
    (token as u32, summary.log_prob(logits[token], inverse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use krystal_math::rng::{Purpose, stream_rng};

    /// Pearson's chi-squared over 40 tokens and 40,000 draws: with 39 degrees of freedom the 1 - 1e-6 quantile is 98, so a
    /// correct sampler fails once in a million changes of the stream.
    #[test]
    fn frequencies_are_the_probabilities() {
        let logits: Vec<f32> = (0..40).map(|i| ((i * 7 % 13) as f32 - 6.0) / 4.0).collect();
        for sampling in [
            Sampling::default(),
            Sampling { temperature: 0.7, ..Sampling::default() },
            Sampling { temperature: 1.3, top_k: 39, ..Sampling::default() },
        ] {
            let p = sampling::probabilities(&logits, &[], &sampling);
            let mut counts = vec![0_u32; logits.len()];
            let mut rng = stream_rng(1, Purpose::Generation, 0, 0);
            for _ in 0..40_000 {
                counts[sample(&logits, Vec::new, &sampling, &mut rng).0 as usize] += 1;
            }
            let chi: f64 = counts
                .iter()
                .zip(&p)
                .filter(|(_, p)| **p > 0.0)
                .map(|(c, p)| (f64::from(*c) - 40_000.0 * p).powi(2) / (40_000.0 * p))
                .sum();
            assert!(chi < 98.0, "chi-squared {chi} with {sampling:?}");
        }
    }

    /// The sum of the weights in f32 may exceed their sum in f64, and then the largest `u` lies beyond all tokens.
    #[test]
    fn the_largest_u_draws_no_token_without_weight() {
        let u = 1.0 - f64::EPSILON / 2.0;
        let mut beyond = 0;
        for seed in 0..200 {
            let mut rng = stream_rng(seed, Purpose::Generation, 0, 0);
            let mut logits: Vec<f32> = (0..5000).map(|_| rng.random::<f32>()).collect();
            logits.push(-60.0);
            let summary = Summary::of_row(&logits, 1.0);
            match cumulative_draw(&logits, 1.0, &summary, u) {
                Some(token) => assert!(token < 5000, "the token of probability e^-69"),
                None => beyond += 1,
            }
        }
        assert!(beyond > 0, "the case that this is about does not occur");
    }

    #[test]
    fn log_probs_ignore_everything_but_the_temperature() {
        let logits = [0.5, 2.0, -1.0, 0.0];
        let exact = |t: f64, i: usize| {
            let z: Vec<f64> = logits.iter().map(|z| f64::from(*z) / t).collect();
            z[i] - z.iter().map(|z| z.exp()).sum::<f64>().ln()
        };
        let mut rng = stream_rng(3, Purpose::Generation, 0, 0);
        for (sampling, t) in [
            (Sampling { temperature: 0.5, top_p: 0.3, ..Sampling::default() }, 0.5),
            (Sampling { temperature: 2.0, ..Sampling::default() }, 2.0),
            (Sampling::greedy(), 1.0),
        ] {
            let (token, log_prob) = sample(&logits, Vec::new, &sampling, &mut rng);
            assert!((f64::from(log_prob) - exact(t, token as usize)).abs() < 1e-6);
        }
    }
}
