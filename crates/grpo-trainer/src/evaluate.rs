//! Evaluation: how many problems the policy solves.

use krystal_math::rng::Purpose;
use krystal_math::statistics::{mean, wilson_interval};
use serde::{Deserialize, Serialize};

use crate::config::first_violation;
use crate::data::Record;
use crate::error::Error;
use crate::policy::{Finish, GenerationRequest, Policy, Sampling};
use crate::reward::RewardFunction;
use crate::rollout::{check_completions, decode, encode_prompts, judge, reward_inputs};

/// How to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateConfig {
    /// Seed of the draws; greedy decoding draws nothing. Default 42.
    pub seed: u64,
    /// Completions per problem, >= every `k`. Default 1.
    pub num_samples: usize,
    /// For which `k` to report pass@k. Default `[1]`.
    pub ks: Vec<usize>,
    /// How tokens are drawn. Default greedy (temperature 0).
    pub sampling: Sampling,
    /// Most tokens of a completion. Default 512.
    pub max_completion_length: usize,
    /// Problems given to the policy at once. Memory only. Default 64.
    pub batch_prompts: usize,
    /// A completion passes where its score is at least this. Default 1.
    pub threshold: f64,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            seed: 42,
            num_samples: 1,
            ks: vec![1],
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_completion_length: 512,
            batch_prompts: 64,
            threshold: 1.0,
        }
    }
}

impl EvaluateConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting, what it may be and what it is.
    pub fn validate(&self) -> Result<(), Error> {
        let count = |key, n: usize| (key, n >= 1, "at least 1", n.to_string());
        let temperature = self.sampling.temperature;
        let in_range = |&k: &usize| k >= 1 && k <= self.num_samples;
        first_violation(vec![
            count("num_samples", self.num_samples),
            ("ks", self.ks.iter().all(in_range), "numbers from 1 to num_samples", format!("{:?}", self.ks)),
            count("max_completion_length", self.max_completion_length),
            count("batch_prompts", self.batch_prompts),
            ("threshold", self.threshold.is_finite(), "a number", self.threshold.to_string()),
            ("temperature", temperature >= 0.0 && temperature.is_finite(), "0 or more", temperature.to_string()),
            (
                "num_samples",
                self.num_samples == 1 || temperature > 0.0,
                "1 with temperature 0, for greedy completions are all the same",
                self.num_samples.to_string(),
            ),
        ])
    }
}

/// pass@k with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PassAtK {
    /// Draws per problem.
    pub k: usize,
    /// Share of problems of which at least one of `k` draws passes, estimated without bias.
    pub value: f64,
    /// Lower end of Wilson's interval over the problems.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Problems.
    pub n: usize,
    /// Completions per problem.
    pub num_samples: usize,
    /// pass@k for every `k` asked for.
    pub pass_at: Vec<PassAtK>,
    /// Mean score over the completions that got one.
    pub mean_reward: Option<f64>,
    /// Completions the reward function abstained from. They count as not passed.
    pub n_abstained: usize,
    /// Mean tokens of a completion.
    pub mean_length: f64,
    /// Share of completions cut at the length limit.
    pub clipped_ratio: f64,
    /// Completions that passed, per problem in the order of the records.
    pub passed: Vec<usize>,
}

impl Evaluation {
    /// pass@k, where it was asked for.
    pub fn pass(&self, k: usize) -> Option<PassAtK> {
        self.pass_at.iter().copied().find(|p| p.k == k)
    }

    /// The numbers under the names they have in `metrics.jsonl`.
    pub fn named(&self) -> Vec<(String, Option<f64>)> {
        let mut named = Vec::new();
        for p in &self.pass_at {
            named.push((format!("eval_pass@{}", p.k), Some(p.value)));
            named.push((format!("eval_pass@{}_low", p.k), Some(p.low)));
            named.push((format!("eval_pass@{}_high", p.k), Some(p.high)));
        }
        named.push(("eval_n".into(), Some(self.n as f64)));
        named.push(("eval_reward".into(), self.mean_reward));
        named.push(("eval_abstained".into(), Some(self.n_abstained as f64)));
        named.push(("eval_completions/mean_length".into(), Some(self.mean_length)));
        named.push(("eval_completions/clipped_ratio".into(), Some(self.clipped_ratio)));
        named
    }
}

/// One judged completion, as it is handed to the caller of [`evaluate`].
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedCompletion<'a> {
    /// Which record.
    pub index: usize,
    /// Which of its completions.
    pub sample: usize,
    /// The completion's text.
    pub completion: &'a str,
    /// The score; `None` for an abstention.
    pub score: Option<f64>,
    /// Whether it passed.
    pub passed: bool,
    /// Why it ended.
    pub finish: Finish,
}

/// Evaluates `policy` on `records` by one reward function. `on_completion` sees every completion, in order.
///
/// Each problem draws from its own random stream, so results do not depend on the size of batches. The interval is
/// Wilson's with the problems as trials; for `k > 1`, where a problem's estimate is a fraction, it is somewhat too wide.
///
/// # Errors
/// [`Error::Config`] for settings out of range, and whatever policy or reward function report.
pub fn evaluate<P: Policy>(
    policy: &P,
    records: &[Record],
    reward: &dyn RewardFunction,
    config: &EvaluateConfig,
    on_completion: &mut dyn FnMut(&EvaluatedCompletion<'_>),
) -> Result<Evaluation, Error> {
    config.validate()?;
    let mut passed = Vec::with_capacity(records.len());
    let (mut scores, mut lengths) = (Vec::new(), Vec::new());
    let (mut n_abstained, mut n_clipped) = (0, 0);
    for (batch, chosen) in records.chunks(config.batch_prompts).enumerate() {
        let first = batch * config.batch_prompts;
        let chosen: Vec<&Record> = chosen.iter().collect();
        let prompts = encode_prompts(policy, &chosen, first as u64)?;
        let request = GenerationRequest {
            prompts,
            num_generations: config.num_samples,
            max_completion_length: config.max_completion_length,
            sampling: config.sampling.clone(),
            seed: config.seed,
            purpose: Purpose::Evaluation,
        };
        let completions = policy.generate(&request).map_err(Error::policy("generate"))?;
        check_completions(&request, &completions)?;
        let texts = decode(policy, &completions)?;
        let inputs = reward_inputs(&chosen, &completions, &texts, config.max_completion_length);
        let judged = judge(reward, &inputs)?;
        passed.resize(first + chosen.len(), 0);
        for (n, (completion, verdict)) in completions.iter().flatten().zip(&judged).enumerate() {
            let (index, sample) = (first + n / config.num_samples, n % config.num_samples);
            let pass = verdict.score.is_some_and(|score| score >= config.threshold);
            passed[index] += usize::from(pass);
            n_abstained += usize::from(verdict.score.is_none());
            n_clipped += usize::from(completion.finish == Finish::Length);
            scores.extend(verdict.score);
            lengths.push(completion.tokens.len() as f64);
            on_completion(&EvaluatedCompletion {
                index,
                sample,
                completion: &texts[n],
                score: verdict.score,
                passed: pass,
                finish: completion.finish,
            });
        }
    }
    let pass_at = config.ks.iter().map(|&k| {
        let estimates: Vec<f64> = passed.iter().map(|&c| pass_at_k(config.num_samples, c, k)).collect();
        let value = if estimates.is_empty() { 0.0 } else { mean(&estimates) };
        let (low, high) = wilson_interval(value, estimates.len());
        PassAtK { k, value, low, high }
    });
    Ok(Evaluation {
        n: records.len(),
        num_samples: config.num_samples,
        pass_at: pass_at.collect(),
        mean_reward: (!scores.is_empty()).then(|| mean(&scores)),
        n_abstained,
        mean_length: if lengths.is_empty() { 0.0 } else { mean(&lengths) },
        clipped_ratio: n_clipped as f64 / lengths.len().max(1) as f64,
        passed,
    })
}

/// Unbiased estimate of the chance that at least one of `k` draws passes, when `passed` of `n` draws did.
///
/// `1 - C(n - c, k) / C(n, k)`, as the product `1 - prod_{i = n-c+1}^{n} (1 - k / i)`, which cannot overflow.
/// Chen et al. (2021), arXiv:2107.03374. NaN where `k > n`.
///
/// ```
/// use grpo_trainer::evaluate::pass_at_k;
///
/// assert_eq!(pass_at_k(4, 1, 1), 0.25);
/// assert_eq!(pass_at_k(4, 1, 4), 1.0);
/// ```
pub fn pass_at_k(n: usize, passed: usize, k: usize) -> f64 {
    if k > n || passed > n {
        return f64::NAN;
    }
    if n - passed < k {
        return 1.0;
    }
    1.0 - (n - passed + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts, over every choice of `k` of `n` draws, those with a passing one.
    fn by_enumeration(n: usize, passed: usize, k: usize) -> f64 {
        let subsets = (0..1_u32 << n).filter(|s| s.count_ones() as usize == k);
        let (hits, all) =
            subsets.fold((0.0, 0.0), |(hits, all), s| (hits + f64::from(s & ((1 << passed) - 1) != 0), all + 1.0));
        hits / all
    }

    #[test]
    fn pass_at_k_agrees_with_enumeration() {
        for n in 1..9 {
            for passed in 0..=n {
                for k in 1..=n {
                    let (got, expected) = (pass_at_k(n, passed, k), by_enumeration(n, passed, k));
                    assert!((got - expected).abs() < 1e-12, "n {n} c {passed} k {k}: {got} {expected}");
                }
            }
        }
        assert!(pass_at_k(2, 1, 3).is_nan());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let check = |config: EvaluateConfig| config.validate().unwrap_err().to_string();
        assert!(check(EvaluateConfig { num_samples: 4, ..Default::default() }).contains("greedy"));
        assert!(check(EvaluateConfig { ks: vec![2], ..Default::default() }).starts_with("`ks`"));
        assert!(check(EvaluateConfig { batch_prompts: 0, ..Default::default() }).starts_with("`batch_prompts`"));
        EvaluateConfig::default().validate().unwrap();
    }
}
