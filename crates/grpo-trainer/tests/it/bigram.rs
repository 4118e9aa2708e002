//! A small exact language model: a table of next-token logits, with analytic gradients.

use std::cell::Cell;
use std::path::Path;

use grpo_trainer::data::Prompt;
use grpo_trainer::policy::{
    Completion, Finish, GenerationRequest, Parameter, Policy, ScoreGroup, TokenScores, TokenWeights,
};
use krystal_math::rng::stream_rng;
use rand::RngExt;

/// Letters `a` to `f`, and the end of a sequence.
pub(crate) const VOCAB: usize = 7;
pub(crate) const END: u32 = 6;

/// `p(next | previous) = softmax(logits[previous] / temperature)`, trained in two tensors, odd and even rows.
#[derive(Debug, Clone)]
pub(crate) struct Bigram {
    pub(crate) even: Vec<f32>,
    pub(crate) odd: Vec<f32>,
    gradient_even: Vec<f32>,
    gradient_odd: Vec<f32>,
    published: Vec<f32>,
    reference: Vec<f32>,
    pub(crate) fault: Fault,
    pub(crate) n_forward: Cell<usize>,
}

/// Ways in which a policy may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Nothing to train.
    Frozen,
    /// Weights never reach the parameters.
    NoGradient,
    /// A gradient is NaN.
    NanGradient,
    /// A log-probability is NaN.
    NanForward,
    /// Sampling records other log-probabilities than scoring finds.
    Mismatch,
    /// There is no reference model.
    NoReference,
    /// One completion too few.
    TooFewCompletions,
}

#[derive(Debug, thiserror::Error)]
#[error("the bigram knows letters a to f only")]
pub(crate) struct UnknownLetter;

/// Per token of each completion: previous token, token, probabilities; and the temperature.
#[derive(Debug)]
pub(crate) struct Tape(Vec<Vec<(usize, usize, Vec<f64>)>>, f64);

impl Bigram {
    pub(crate) fn new() -> Self {
        Self::with_fault(Fault::None)
    }

    pub(crate) fn with_fault(fault: Fault) -> Self {
        // Uniform but for a small fixed unevenness, so that no two rows are the same by accident.
        let table: Vec<f32> = (0..VOCAB * VOCAB).map(|i| (i * 37 % 11) as f32 * 0.02).collect();
        let rows = |parity: usize| -> Vec<f32> {
            table.chunks(VOCAB).enumerate().filter(|(r, _)| r % 2 == parity).flat_map(|(_, row)| row.to_vec()).collect()
        };
        let (even, odd) = (rows(0), rows(1));
        Self {
            gradient_even: vec![0.0; even.len()],
            gradient_odd: vec![0.0; odd.len()],
            even,
            odd,
            published: table.clone(),
            reference: table,
            fault,
            n_forward: Cell::new(0),
        }
    }

    fn probabilities(table: &[f32], previous: usize, temperature: f64) -> Vec<f64> {
        let row = &table[previous * VOCAB..(previous + 1) * VOCAB];
        let logits: Vec<f64> = row.iter().map(|&x| f64::from(x) / temperature).collect();
        let log_total = krystal_math::statistics::log_sum_exp(&logits);
        logits.iter().map(|x| (x - log_total).exp()).collect()
    }

    fn run(&self, table: &[f32], groups: &[ScoreGroup<'_>], temperature: f32) -> (TokenScores, Tape) {
        let (mut scores, mut tape) = (TokenScores::default(), Vec::new());
        for group in groups {
            for completion in &group.completions {
                let mut previous = *group.prompt.last().unwrap() as usize;
                let (mut log_probs, mut entropy, mut steps) = (vec![], vec![], vec![]);
                for &token in *completion {
                    let p = Self::probabilities(table, previous, f64::from(temperature));
                    log_probs.push(p[token as usize].ln() as f32);
                    entropy.push(-p.iter().map(|p| p * p.ln()).sum::<f64>() as f32);
                    steps.push((previous, token as usize, p));
                    previous = token as usize;
                }
                scores.log_probs.push(log_probs);
                scores.entropy.push(entropy);
                tape.push(steps);
            }
        }
        (scores, Tape(tape, f64::from(temperature)))
    }
}

impl Policy for Bigram {
    type Tape = Tape;
    type Error = UnknownLetter;

    fn generate(&self, request: &GenerationRequest) -> Result<Vec<Vec<Completion>>, UnknownLetter> {
        let complete = |prompt: &grpo_trainer::policy::PromptRequest, g: usize| {
            let mut rng = stream_rng(request.seed, request.purpose, prompt.stream, g as u64);
            let mut previous = *prompt.tokens.last().unwrap() as usize;
            let mut completion = Completion { tokens: vec![], log_probs: vec![], finish: Finish::Length };
            let greedy = request.sampling.temperature == 0.0;
            let temperature = if greedy { 1.0 } else { f64::from(request.sampling.temperature) };
            while completion.tokens.len() < request.max_completion_length {
                let p = Self::probabilities(&self.published, previous, temperature);
                let mut left: f64 = rng.random();
                let drawn = p.iter().position(|p| {
                    left -= p;
                    left < 0.0
                });
                let likeliest = (0..VOCAB).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
                let token = if greedy { likeliest } else { drawn.unwrap_or(VOCAB - 1) };
                let shift = if self.fault == Fault::Mismatch { 0.01 } else { 0.0 };
                completion.tokens.push(token as u32);
                completion.log_probs.push((p[token].ln() + shift) as f32);
                if token as u32 == END {
                    completion.finish = Finish::EndOfSequence;
                    break;
                }
                previous = token;
            }
            completion
        };
        let n = request.num_generations - usize::from(self.fault == Fault::TooFewCompletions);
        Ok(request.prompts.iter().map(|prompt| (0..n).map(|g| complete(prompt, g)).collect()).collect())
    }

    fn score(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<TokenScores, UnknownLetter> {
        Ok(self.run(&self.published, groups, temperature).0)
    }

    fn score_reference(
        &self,
        groups: &[ScoreGroup<'_>],
        temperature: f32,
    ) -> Result<Option<TokenScores>, UnknownLetter> {
        Ok((self.fault != Fault::NoReference).then(|| self.run(&self.reference, groups, temperature).0))
    }

    fn forward(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<(TokenScores, Tape), UnknownLetter> {
        self.n_forward.set(self.n_forward.get() + 1);
        let (mut scores, tape) = self.run(&self.published, groups, temperature);
        if self.fault == Fault::NanForward {
            scores.log_probs[0][0] = f32::NAN;
        }
        Ok((scores, tape))
    }

    fn backward(&mut self, tape: Tape, weights: &TokenWeights) -> Result<(), UnknownLetter> {
        if self.fault == Fault::NoGradient {
            return Ok(());
        }
        let Tape(sequences, temperature) = tape;
        for (n, steps) in sequences.iter().enumerate() {
            for (t, (previous, token, p)) in steps.iter().enumerate() {
                let w = f64::from(weights.log_probs[n][t]);
                let v = weights.entropy.get(n).map_or(0.0, |row| f64::from(row[t]));
                let entropy = -p.iter().map(|p| p * p.ln()).sum::<f64>();
                let row = if previous % 2 == 0 { &mut self.gradient_even } else { &mut self.gradient_odd };
                for j in 0..VOCAB {
                    let d_log_prob = f64::from(j == *token) - p[j];
                    let d_entropy = -p[j] * (p[j].ln() + entropy);
                    row[previous / 2 * VOCAB + j] += ((w * d_log_prob + v * d_entropy) / temperature) as f32;
                }
            }
        }
        if self.fault == Fault::NanGradient {
            self.gradient_odd[3] = f32::NAN;
        }
        Ok(())
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        if self.fault == Fault::Frozen {
            return Vec::new();
        }
        vec![
            Parameter { name: "even", values: &mut self.even, gradient: &mut self.gradient_even },
            Parameter { name: "odd", values: &mut self.odd, gradient: &mut self.gradient_odd },
        ]
    }

    fn publish(&mut self) -> Result<(), UnknownLetter> {
        for (r, row) in self.published.chunks_mut(VOCAB).enumerate() {
            let source = if r % 2 == 0 { &self.even } else { &self.odd };
            row.copy_from_slice(&source[r / 2 * VOCAB..(r / 2 + 1) * VOCAB]);
        }
        Ok(())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, UnknownLetter> {
        Ok(tokens.iter().filter(|&&t| t != END).map(|&t| char::from(b'a' + t as u8)).collect())
    }

    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, UnknownLetter> {
        let Prompt::Text(text) = prompt else {
            return Err(UnknownLetter);
        };
        text.bytes().map(|b| (b'a'..=b'f').contains(&b).then(|| u32::from(b - b'a')).ok_or(UnknownLetter)).collect()
    }

    fn save(&self, directory: &Path) -> Result<(), UnknownLetter> {
        std::fs::create_dir_all(directory).map_err(|_| UnknownLetter)?;
        let bytes: Vec<u8> = self.published.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(directory.join("table.bin"), bytes).map_err(|_| UnknownLetter)
    }
}
