//! Models whose next token depends on the last one alone, by a table of logits.

use krystal_lm::{Decoder, Tensor, decoder_from};

use crate::random_model::Features;

/// A decoder over `V` tokens with `logits(last, next)`: the embedding is the identity, blocks add nothing, and the head reads
/// the table. `V` must be a power of 4 for the norm's factor `sqrt(V)` to be exact.
pub(crate) fn bigram(vocab: usize, max_positions: usize, logits: impl Fn(usize, usize) -> f32) -> Decoder {
    let features = Features { hidden: vocab, vocab, layers: 1, ..Features::default() };
    let mut config = features.config();
    config.rms_norm_eps = 0.0;
    config.max_position_embeddings = max_positions;
    let root = (vocab as f32).sqrt();
    let tensors: Vec<Tensor> = config
        .tensor_names()
        .into_iter()
        .map(|(name, shape)| {
            let at = |i: usize| match name.as_str() {
                "model.embed_tokens.weight" => f32::from(u8::from(i / vocab == i % vocab)),
                "lm_head.weight" => logits(i % vocab, i / vocab) / root,
                _ => f32::from(u8::from(name.contains("norm"))),
            };
            let values = (0..shape.iter().product()).map(at).collect();
            Tensor { name, shape, values }
        })
        .collect();
    decoder_from(config, &tensors).unwrap()
}

/// Every token is followed by the next one, the last by the first.
pub(crate) fn counting(vocab: usize, max_positions: usize) -> Decoder {
    bigram(vocab, max_positions, |last, next| if next == (last + 1) % vocab { 30.0 } else { 0.0 })
}
