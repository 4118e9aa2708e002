//! How far training has moved a model.

use krystal::grpo::data::Record;
use krystal::grpo::policy::{GenerationRequest, Policy, PromptRequest, Sampling, ScoreGroup};
use krystal::math::rng::Purpose;

/// Prompts that are answered for it.
const PROMPTS: usize = 64;

/// Kullback-Leibler divergence of the policy from its reference, in nats per token, over one sampled answer to each of the first
/// 64 prompts; `None` where there is no reference.
///
/// The estimator is k3 (Schulman, "Approximating KL divergence", 2020): the mean of `exp(d) - d - 1` with `d` the reference's
/// log-probability minus the policy's. It is unbiased and never negative. Draws come from `(seed, Purpose::Evaluation, i, 0)`.
pub(crate) fn divergence<P: Policy>(
    policy: &P,
    records: &[Record],
    max_completion_length: usize,
    seed: u64,
) -> anyhow::Result<Option<f64>> {
    let mut prompts = Vec::new();
    for (stream, record) in (0..).zip(records.iter().take(PROMPTS)) {
        prompts.push(PromptRequest { tokens: policy.encode_prompt(&record.prompt)?, stream, agent: record.agent() });
    }
    let request = GenerationRequest {
        prompts,
        num_generations: 1,
        max_completion_length,
        sampling: Sampling::default(),
        seed,
        purpose: Purpose::Evaluation,
    };
    let answers = policy.generate(&request)?;
    let groups: Vec<ScoreGroup<'_>> = request
        .prompts
        .iter()
        .zip(&answers)
        .map(|(prompt, answers)| ScoreGroup {
            prompt: &prompt.tokens,
            completions: answers.iter().map(|answer| answer.tokens.as_slice()).collect(),
            agent: prompt.agent,
        })
        .collect();
    let Some(reference) = policy.score_reference(&groups, 1.0)? else { return Ok(None) };
    let own = policy.score(&groups, 1.0)?;
    let pairs = own.log_probs.iter().flatten().zip(reference.log_probs.iter().flatten());
    let (mut sum, mut n) = (0.0, 0_usize);
    for (own, reference) in pairs {
        let d = f64::from(*reference) - f64::from(*own);
        sum += d.exp_m1() - d;
        n += 1;
    }
    Ok((n > 0).then(|| sum / n as f64))
}
