//! How far training has moved the policy from its reference.

use krystal_math::rng::Purpose;
use krystal_math::statistics::{mean, sum};

use crate::data::Record;
use crate::error::Error;
use crate::evaluate::EvaluateConfig;
use crate::loss::KlEstimator;
use crate::policy::{GenerationRequest, Policy, Sampling, ScoreGroup};
use crate::rollout::{check_completions, encode_prompts};

/// `KL(policy || reference)` over the policy's own completions, by the k3 estimator (see [`KlEstimator`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// Nats per sampled token.
    pub per_token: f64,
    /// Nats per completion.
    pub per_completion: f64,
    /// Tokens sampled.
    pub n_tokens: usize,
}

/// Measures the divergence on `records`: `config.num_samples` completions each, drawn as `config.sampling` says (at temperature 1
/// where that is greedy, for a divergence needs draws). `None` where the policy has no reference, or there are no records.
///
/// # Errors
/// [`Error::Config`] for settings out of range, and whatever the policy reports.
pub fn reference_divergence<P: Policy>(
    policy: &P,
    records: &[Record],
    config: &EvaluateConfig,
) -> Result<Option<Divergence>, Error> {
    config.validate()?;
    let mut sampling = config.sampling.clone();
    if sampling.temperature == 0.0 {
        sampling = Sampling::default();
    }
    let temperature = sampling.temperature;
    let (mut tokens, mut completions) = (Vec::new(), Vec::new());
    for (batch, chosen) in records.chunks(config.batch_prompts).enumerate() {
        let chosen: Vec<&Record> = chosen.iter().collect();
        let request = GenerationRequest {
            prompts: encode_prompts(policy, &chosen, (batch * config.batch_prompts) as u64)?,
            num_generations: config.num_samples,
            max_completion_length: config.max_completion_length,
            sampling: sampling.clone(),
            seed: config.seed,
            purpose: Purpose::Evaluation,
        };
        let drawn = policy.generate(&request).map_err(Error::policy("generate"))?;
        check_completions(&request, &drawn)?;
        let groups: Vec<ScoreGroup<'_>> = request
            .prompts
            .iter()
            .zip(&drawn)
            .map(|(p, g)| ScoreGroup {
                prompt: &p.tokens,
                completions: g.iter().map(|c| &c.tokens[..]).collect(),
                agent: p.agent,
            })
            .collect();
        let reference = policy.score_reference(&groups, temperature).map_err(Error::policy("score the reference"))?;
        let Some(reference) = reference else { return Ok(None) };
        let own = policy.score(&groups, temperature).map_err(Error::policy("score"))?;
        for (own, reference) in own.log_probs.iter().zip(&reference.log_probs) {
            let estimates: Vec<f64> = own
                .iter()
                .zip(reference)
                .map(|(lp, reference)| KlEstimator::K3.estimate(f64::from(*reference), f64::from(*lp)))
                .collect();
            completions.push(sum(estimates.iter().copied()));
            tokens.extend(estimates);
        }
    }
    if tokens.is_empty() {
        return Ok(None);
    }
    Ok(Some(Divergence { per_token: mean(&tokens), per_completion: mean(&completions), n_tokens: tokens.len() }))
}
