//! From a batch of judged completions to gradients.

use crate::config::GrpoConfig;
use crate::error::Error;
use crate::loss::{LossMetrics, LossSequence, LossSettings, Window, compute_loss, rollout_importance_ratio};
use crate::metrics::{BatchMeans, StepMetrics};
use crate::policy::{Policy, ScoreGroup, TokenScores, TokenWeights};
use crate::rollout::{RolloutGroup, RolloutSequence};

/// What a batch needs to know besides its completions.
#[derive(Debug)]
pub(crate) struct BatchContext<'a> {
    pub(crate) config: &'a GrpoConfig,
    pub(crate) loss: &'a LossSettings,
    /// Tokens that count in the whole generation.
    pub(crate) num_items: usize,
    /// What the generation was sampled at.
    pub(crate) temperature: f32,
    pub(crate) entropy_coef: f64,
    pub(crate) step: u64,
}

/// Sums over the batches of a step.
#[derive(Debug, Default)]
pub(crate) struct LearnSums {
    pub(crate) loss: f64,
    pub(crate) means: BatchMeans,
    pub(crate) entropy_sum: f64,
    pub(crate) entropy_count: f64,
    /// Whether any weight handed to the policy was not zero.
    pub(crate) has_weights: bool,
    pub(crate) n_tokens: u64,
    pub(crate) sampling: SamplingSums,
}

/// How far the log-probabilities recorded while sampling are from the rescored ones.
#[derive(Debug, Default)]
pub(crate) struct SamplingSums {
    differences: Vec<f64>,
    ratios: Vec<f64>,
}

impl SamplingSums {
    /// Compares a sequence once, with its log-probabilities under the parameters it was generated with.
    fn check(&mut self, sequence: &mut RolloutSequence, rescored: &[f32], config: &GrpoConfig) {
        if !sequence.is_checked && sequence.counts {
            let pairs = sequence.sampling_log_probs.iter().zip(rescored);
            self.differences.extend(pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()));
            let ratios = rollout_ratio(config, &wide(rescored), &wide(&sequence.sampling_log_probs), sequence.counts);
            self.ratios.extend(ratios.into_iter().flatten());
        }
        sequence.is_checked = true;
    }

    /// Largest difference (NaN where one is NaN); `None` where nothing was compared.
    pub(crate) fn max_difference(&self) -> Option<f64> {
        let larger = |a: f64, b: f64| if b.is_nan() || b > a { b } else { a };
        self.differences.iter().copied().reduce(|a, b| if a.is_nan() { a } else { larger(a, b) })
    }

    pub(crate) fn push_to(&self, metrics: &mut StepMetrics) {
        let mean = |x: &[f64]| (!x.is_empty()).then(|| krystal_math::statistics::mean(x));
        metrics.push("sampling/sampling_logp_difference/mean", mean(&self.differences));
        metrics.push("sampling/sampling_logp_difference/max", self.max_difference());
        if !self.ratios.is_empty() {
            let ratios = self.ratios.iter().copied();
            metrics.push("sampling/importance_sampling_ratio/min", ratios.clone().reduce(f64::min));
            metrics.push("sampling/importance_sampling_ratio/mean", mean(&self.ratios));
            metrics.push("sampling/importance_sampling_ratio/max", ratios.reduce(f64::max));
        }
    }
}

/// Computes the loss of one batch and adds its gradients to the policy's, in parts of `micro_batch_prompts`.
pub(crate) fn learn_batch<P: Policy>(
    policy: &mut P,
    groups: &mut [RolloutGroup],
    context: &BatchContext<'_>,
    sums: &mut LearnSums,
) -> Result<(), Error> {
    let config = context.config;
    let sequences = || groups.iter().flat_map(|g| &g.sequences);
    let n_tokens = sequences().filter(|s| s.counts).map(|s| s.tokens.len()).sum();
    let mut window = Window {
        n_sequences: sequences().count(),
        n_tokens,
        num_items_in_batch: context.num_items,
        max_completion_length: config.max_completion_length,
        current_gradient_accumulation_steps: config.gradient_accumulation_steps,
        steps_per_generation: config.steps_per_generation(),
        entropy_threshold: None,
        n_high_entropy_tokens: n_tokens,
    };
    sums.n_tokens += sequences().map(|s| s.tokens.len() as u64).sum::<u64>();
    let part_size = config.micro_batch_prompts.unwrap_or(groups.len()).min(groups.len());
    let needs_threshold = context.loss.top_entropy_quantile < 1.0;
    if needs_threshold && part_size < groups.len() {
        // The quantile is over the whole batch, so every part must be scored before the first can be weighed.
        let mut entropies = Vec::new();
        for part in groups.chunks(part_size) {
            let to_score = to_score(part);
            let scores = policy.score(&to_score, context.temperature).map_err(Error::policy("score completions"))?;
            check_scores("score", &to_score, &scores)?;
            entropies.extend(scores.entropy);
        }
        set_threshold(&mut window, context.loss, groups, &entropies);
    }
    let mut metrics = LossMetrics::default();
    for part in groups.chunks_mut(part_size) {
        if context.loss.beta != 0.0 {
            score_reference(policy, part, context)?;
        }
        let (scores, tape) = {
            let to_score = to_score(part);
            let (scores, tape) =
                policy.forward(&to_score, context.temperature).map_err(Error::policy("run forward"))?;
            check_scores("forward", &to_score, &scores)?;
            (scores, tape)
        };
        if needs_threshold && window.entropy_threshold.is_none() {
            set_threshold(&mut window, context.loss, part, &scores.entropy);
        }
        let weights = weigh(part, &scores, &window, context, &mut metrics, sums)?;
        let mut all = weights.log_probs.iter().chain(&weights.entropy).flatten();
        if all.any(|&w| w != 0.0) {
            sums.has_weights = true;
            policy.backward(tape, &weights).map_err(Error::policy("run backward"))?;
        }
    }
    let (sum, count) = metrics.high_entropy_totals();
    sums.entropy_sum += sum;
    sums.entropy_count += count;
    sums.means.add(metrics.named(context.loss));
    Ok(())
}

/// Turns scores into the derivatives of the loss, and remembers what later visits of the batch need.
fn weigh(
    part: &mut [RolloutGroup],
    scores: &TokenScores,
    window: &Window,
    context: &BatchContext<'_>,
    metrics: &mut LossMetrics,
    sums: &mut LearnSums,
) -> Result<TokenWeights, Error> {
    let config = context.config;
    let needs_old = config.needs_old_log_probs();
    let mut inputs = Vec::new();
    let sequences = part.iter_mut().flat_map(|g| &mut g.sequences);
    for (n, sequence) in sequences.enumerate() {
        if sequence.old_log_probs.is_none() {
            // The parameters are those that generated: these are the old log-probabilities too.
            sums.sampling.check(sequence, &scores.log_probs[n], config);
            if needs_old {
                sequence.old_log_probs = Some(scores.log_probs[n].clone());
            }
        }
        inputs.push(SequenceInput::new(sequence, &scores.log_probs[n], &scores.entropy[n], config));
    }
    let inputs: Vec<LossSequence<'_>> = inputs.iter().map(SequenceInput::borrow).collect();
    let output = compute_loss(context.loss, &inputs, window, context.entropy_coef);
    if !output.loss.is_finite() {
        return Err(Error::NonFiniteLoss { step: context.step, loss: output.loss });
    }
    sums.loss += output.loss;
    metrics.merge(&output.metrics);
    let narrow = |rows: Vec<Vec<f64>>| rows.into_iter().map(|r| r.into_iter().map(|x| x as f32).collect()).collect();
    Ok(TokenWeights { log_probs: narrow(output.d_log_probs), entropy: narrow(output.d_entropy) })
}

/// A sequence widened to `f64`.
struct SequenceInput {
    log_probs: Vec<f64>,
    old: Option<Vec<f64>>,
    sampling: Vec<f64>,
    reference: Option<Vec<f64>>,
    entropy: Vec<f64>,
    mask: Vec<bool>,
    rollout_ratio: Option<Vec<f64>>,
    advantage: f64,
}

impl SequenceInput {
    fn new(sequence: &RolloutSequence, log_probs: &[f32], entropy: &[f32], config: &GrpoConfig) -> Self {
        let log_probs = wide(log_probs);
        let old = sequence.old_log_probs.as_deref().map(wide);
        let sampling = wide(&sequence.sampling_log_probs);
        let mask = vec![sequence.counts; sequence.tokens.len()];
        let rollout_ratio = rollout_ratio(config, old.as_ref().unwrap_or(&log_probs), &sampling, sequence.counts);
        Self {
            log_probs,
            old,
            sampling,
            reference: sequence.reference_log_probs.as_deref().map(wide),
            entropy: wide(entropy),
            mask,
            rollout_ratio,
            advantage: sequence.advantage,
        }
    }

    fn borrow(&self) -> LossSequence<'_> {
        LossSequence {
            log_probs: &self.log_probs,
            old_log_probs: self.old.as_deref(),
            // The sampler's own numbers matter where it is another model; otherwise they differ by rounding alone.
            sampling_log_probs: self.rollout_ratio.as_ref().map(|_| &self.sampling[..]),
            reference_log_probs: self.reference.as_deref(),
            entropy: &self.entropy,
            mask: &self.mask,
            advantage: self.advantage,
            rollout_ratio: self.rollout_ratio.as_deref(),
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// The rollout ratio as the settings bound it; `None` where it is not asked for.
fn rollout_ratio(config: &GrpoConfig, old: &[f64], sampling: &[f64], counts: bool) -> Option<Vec<f64>> {
    let mask = vec![counts; old.len()];
    let (low, high) = (config.rollout_correction_min, config.rollout_correction_max);
    rollout_importance_ratio(config.rollout_correction, old, sampling, &mask, low, high)
}

/// Scores groups that will be visited after the parameters have changed, while these are still the ones that generated.
pub(crate) fn score_old_log_probs<P: Policy>(
    policy: &P,
    groups: &mut [RolloutGroup],
    temperature: f32,
    config: &GrpoConfig,
    sampling: &mut SamplingSums,
) -> Result<(), Error> {
    for part in groups.chunks_mut(config.micro_batch_prompts.unwrap_or_else(|| config.prompts_per_batch())) {
        let scores = {
            let to_score = to_score(part);
            let scores = policy.score(&to_score, temperature).map_err(Error::policy("score completions"))?;
            check_scores("score", &to_score, &scores)?;
            scores
        };
        for (sequence, old) in part.iter_mut().flat_map(|g| &mut g.sequences).zip(scores.log_probs) {
            sampling.check(sequence, &old, config);
            sequence.old_log_probs = Some(old);
        }
    }
    Ok(())
}

/// Scores groups under the reference model, once.
fn score_reference<P: Policy>(policy: &P, part: &mut [RolloutGroup], context: &BatchContext<'_>) -> Result<(), Error> {
    if part.iter().flat_map(|g| &g.sequences).all(|s| s.reference_log_probs.is_some()) {
        return Ok(());
    }
    let scores = {
        let to_score = to_score(part);
        let scores = policy
            .score_reference(&to_score, context.temperature)
            .map_err(Error::policy("score under the reference model"))?
            .ok_or(Error::MissingReference { beta: context.config.beta })?;
        check_scores("score_reference", &to_score, &scores)?;
        scores
    };
    for (sequence, reference) in part.iter_mut().flat_map(|g| &mut g.sequences).zip(scores.log_probs) {
        sequence.reference_log_probs = Some(reference);
    }
    Ok(())
}

fn to_score(groups: &[RolloutGroup]) -> Vec<ScoreGroup<'_>> {
    groups.iter().map(RolloutGroup::to_score).collect()
}

fn set_threshold(window: &mut Window, loss: &LossSettings, groups: &[RolloutGroup], entropy: &[Vec<f32>]) {
    let counted = groups.iter().flat_map(|g| &g.sequences).map(|s| s.counts);
    let rows: Vec<(Vec<f64>, Vec<bool>)> =
        entropy.iter().zip(counted).map(|(row, counts)| (wide(row), vec![counts; row.len()])).collect();
    window.set_entropy_threshold(loss, rows.iter().map(|(h, m)| (&h[..], &m[..])));
}

/// Checks that a policy returned one value per completion token.
pub(crate) fn check_scores(call: &'static str, groups: &[ScoreGroup<'_>], scores: &TokenScores) -> Result<(), Error> {
    let expected: Vec<usize> = groups.iter().flat_map(|g| &g.completions).map(|c| c.len()).collect();
    for (what, rows) in [("log-probabilities", &scores.log_probs), ("entropies", &scores.entropy)] {
        let got: Vec<usize> = rows.iter().map(Vec::len).collect();
        if got != expected {
            let (n, m) = (expected.len(), expected.iter().sum::<usize>());
            let expected = format!("{what} of {n} completions, {m} tokens in all and one each");
            let got = format!("{} completions, {} tokens in all", got.len(), got.iter().sum::<usize>());
            return Err(Error::PolicyShape { call, expected, got });
        }
    }
    Ok(())
}
