//! Log-probability and entropy of completions, and their gradient.

use std::sync::Arc;

use super::gradient::Gradients;
use super::{Activations, Adapted, Decoder, Saved, TokenBatch};
use crate::kernels::{Kernels, LogProbWeights, LogProbs, Write};
use crate::lora::LoraWeights;

/// How much of the forward pass a tape holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Every activation that the backward pass reads.
    #[default]
    Activations,
    /// The input of each block alone; the block is computed again on the way back: a third more work, several times less memory.
    BlockInputs,
}

/// What a scored token's loss depends on, in the order of [`TokenBatch::targets`], `(S)` each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Log-probability of each target (nats).
    pub log_probs: Vec<f32>,
    /// Entropy of the distribution of each target (nats).
    pub entropy: Vec<f32>,
}

#[derive(Debug)]
enum Block<K: Kernels> {
    Saved(Box<Saved<K>>),
    Input(K::Buffer),
}

/// A forward pass that can be turned back.
#[derive(Debug)]
pub struct Tape<K: Kernels> {
    batch: Arc<TokenBatch>,
    temperature: f32,
    keep: Keep,
    blocks: Vec<Block<K>>,
    /// Scored rows before and after the final norm, `(S, C)`.
    last: K::Buffer,
    hidden: K::Buffer,
    scores: LogProbs,
}

impl<K: Kernels> Tape<K> {
    pub(super) fn batch(&self) -> &Arc<TokenBatch> {
        &self.batch
    }

    pub(super) fn temperature(&self) -> f32 {
        self.temperature
    }

    pub(super) fn keep(&self) -> Keep {
        self.keep
    }
}

fn check_temperature(temperature: f32) {
    let fits = temperature > 0.0 && temperature.is_finite();
    assert!(fits, "the temperature must be a finite number above 0, got {temperature}");
}

impl<K: Kernels> Decoder<K> {
    /// The residual stream of a batch after the blocks, `(R, C)`.
    fn residual(
        &self,
        lora: Option<&LoraWeights<K>>,
        batch: &TokenBatch,
        mut visit: impl FnMut(Adapted<'_, K>, &mut K::Buffer),
    ) -> K::Buffer {
        batch.check(self.config().vocab_size);
        let mut x = self.kernels().zeros(0);
        self.kernels().embed(self.embedding(), &batch.tokens, &mut x);
        for layer in 0..self.config().num_hidden_layers {
            visit(Adapted { decoder: self, lora, layer }, &mut x);
        }
        x
    }

    /// Scored rows before and after the final norm.
    fn scored_rows(&self, x: &K::Buffer, batch: &TokenBatch) -> (K::Buffer, K::Buffer) {
        let (mut last, mut hidden) = (self.kernels().zeros(0), self.kernels().zeros(0));
        self.kernels().gather(x, self.config().hidden_size, &batch.scored, &mut last);
        self.kernels().rms_norm(&last, self.norm(), self.config().rms_norm_eps, &mut hidden);
        (last, hidden)
    }

    /// Log-probability and entropy of every scored token of `softmax(logits / temperature)`.
    ///
    /// Positions beyond `max_position_embeddings` are computed like all others, as in transformers: the model was not made for
    /// them, and whoever takes texts from users refuses longer ones.
    ///
    /// # Panics
    /// For tokens beyond the vocabulary, a batch that contradicts itself, or a temperature that is not a finite number above 0.
    pub fn score(&self, lora: Option<&LoraWeights<K>>, batch: &TokenBatch, temperature: f32) -> Scores {
        check_temperature(temperature);
        let rope = self.rope(batch.max_positions());
        let mut a = Activations::new(self.kernels());
        let x = self.residual(lora, batch, |block, x| block.forward(x, batch, &rope, &mut a));
        let (_, hidden) = self.scored_rows(&x, batch);
        let scores = self.kernels().log_prob(&hidden, self.head(), &batch.targets, temperature);
        Scores { log_probs: scores.log_prob, entropy: scores.entropy }
    }

    /// Logits of the scored rows, `(S, V)`. For tests and tools: training and sampling never form them all.
    ///
    /// # Panics
    /// For tokens beyond the vocabulary or a batch that contradicts itself.
    pub fn logits(&self, lora: Option<&LoraWeights<K>>, batch: &TokenBatch) -> Vec<f32> {
        let rope = self.rope(batch.max_positions());
        let mut a = Activations::new(self.kernels());
        let x = self.residual(lora, batch, |block, x| block.forward(x, batch, &rope, &mut a));
        let (_, hidden) = self.scored_rows(&x, batch);
        let mut logits = Vec::new();
        self.kernels().logits(&hidden, batch.scored.len(), self.head(), &mut logits);
        logits
    }

    /// As [`Decoder::score`], keeping a tape for [`Decoder::backward`].
    ///
    /// # Panics
    /// As [`Decoder::score`].
    pub fn forward(
        &self,
        lora: Option<&LoraWeights<K>>,
        batch: impl Into<Arc<TokenBatch>>,
        temperature: f32,
        keep: Keep,
    ) -> (Scores, Tape<K>) {
        let batch = batch.into();
        check_temperature(temperature);
        let rope = self.rope(batch.max_positions());
        let mut a = Activations::new(self.kernels());
        let mut blocks = Vec::with_capacity(self.config().num_hidden_layers);
        let x = self.residual(lora, &batch, |block, x| match keep {
            Keep::Activations => blocks.push(Block::Saved(Box::new(block.forward_saving(x, &batch, &rope, &mut a)))),
            Keep::BlockInputs => {
                let mut input = self.kernels().zeros(0);
                self.kernels().copy(x, &mut input);
                blocks.push(Block::Input(input));
                block.forward(x, &batch, &rope, &mut a);
            }
        });
        let (last, hidden) = self.scored_rows(&x, &batch);
        let scores = self.kernels().log_prob(&hidden, self.head(), &batch.targets, temperature);
        let out = Scores { log_probs: scores.log_prob.clone(), entropy: scores.entropy.clone() };
        (out, Tape { batch, temperature, keep, blocks, last, hidden, scores })
    }

    /// Adds to `gradients` those of `sum_s w[s] log_prob[s] + u[s] entropy[s]`, with `w`, `u` in the order of the scores; an
    /// empty `u` is zero. `lora` must be what the forward pass had.
    ///
    /// # Panics
    /// If the weights are not as many as the scores.
    pub fn backward(
        &self,
        lora: Option<&LoraWeights<K>>,
        tape: Tape<K>,
        w_log_prob: &[f32],
        w_entropy: &[f32],
        gradients: &mut Gradients<K>,
    ) {
        let Tape { batch, temperature, keep: _, blocks, last, hidden, scores } = tape;
        let kernels = self.kernels();
        assert_eq!(w_log_prob.len(), batch.targets.len(), "one weight for each scored token");
        assert!(w_entropy.is_empty() || w_entropy.len() == w_log_prob.len(), "no or as many entropy weights");
        let slots = gradients.all_slots().map(|s| (s.embedding, s.norm, s.head));
        let rope = self.rope(batch.max_positions());
        let width = self.config().hidden_size;

        let mut d_hidden = kernels.zeros(0);
        let weights = LogProbWeights { log_prob: w_log_prob, entropy: w_entropy };
        let d_head = slots.map(|(_, _, head)| &mut gradients.buffers[head]);
        kernels.log_prob_backward(
            &hidden,
            self.head(),
            &batch.targets,
            temperature,
            &scores,
            weights,
            &mut d_hidden,
            d_head,
        );
        let mut d_last = hidden;
        let d_norm = slots.map(|(_, norm, _)| &mut gradients.buffers[norm]);
        kernels.rms_norm_backward(
            &d_hidden,
            &last,
            self.norm(),
            self.config().rms_norm_eps,
            &mut d_last,
            Write::Replace,
            d_norm,
        );
        let mut dx = kernels.zeros(batch.rows() * width);
        kernels.scatter_add(&d_last, width, &batch.scored, &mut dx);

        if let Some(activity) = &mut gradients.activity {
            activity.begin(kernels, batch.rows());
        }
        let lowest = if slots.is_some() { 0 } else { lora.map_or(blocks.len(), LoraWeights::first_layer) };
        let mut a = Activations::new(kernels);
        for (layer, block) in blocks.into_iter().enumerate().rev() {
            if layer < lowest {
                break;
            }
            let adapted = Adapted { decoder: self, lora, layer };
            let saved = match block {
                Block::Saved(saved) => *saved,
                Block::Input(mut x) => adapted.forward_saving(&mut x, &batch, &rope, &mut a),
            };
            adapted.backward(saved, &batch, &rope, &mut dx, gradients, slots.is_none() && layer == lowest);
        }
        if let Some((embedding, _, _)) = slots {
            kernels.embed_backward(&dx, &batch.tokens, width, &mut gradients.buffers[embedding]);
        }
    }
}
