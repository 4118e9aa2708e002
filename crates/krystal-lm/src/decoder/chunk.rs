//! Many groups at once, over threads.
//!
//! Groups are cut into chunks of about [`CHUNK_ROWS`] rows: the cut depends on the groups alone, chunks run in parallel, and
//! their gradients are added in order. So the number of threads changes no bit of a result.

use rayon::prelude::*;

use super::{Decoder, Gradients, Group, Keep, Scores, Tape, TokenBatch};
use crate::kernels::Kernels;
use crate::lora::LoraWeights;

/// Rows a chunk is filled up to. Enough for the matrix kernel to run at its peak, few enough that two threads share a group.
const CHUNK_ROWS: usize = 256;
/// Bytes of gradients that may exist beside the sum.
const GRADIENT_BYTES: usize = 256 << 20;
/// Most chunks whose gradients exist at once.
const MOST_AT_ONCE: usize = 8;

/// A forward pass over groups that can be turned back.
#[derive(Debug)]
pub struct GroupTape<K: Kernels> {
    chunks: Vec<Tape<K>>,
    /// Tokens of each completion, in order.
    lengths: Vec<usize>,
    /// Completions of each chunk.
    counts: Vec<usize>,
}

/// Cuts groups into chunks; a long group is cut between completions and its prompt repeated.
fn cut<'a>(groups: &[Group<'a>]) -> Vec<Vec<Group<'a>>> {
    let mut chunks: Vec<Vec<Group<'a>>> = Vec::new();
    let mut rows = CHUNK_ROWS;
    for group in groups {
        group.check();
        let mut open: Option<Group<'a>> = None;
        for completion in &group.completions {
            let needed = completion.len() - 1 + if open.is_none() { group.prompt.len() } else { 0 };
            if rows + needed > CHUNK_ROWS && rows > 0 {
                if let (Some(group), Some(chunk)) = (open.take(), chunks.last_mut()) {
                    chunk.push(group);
                }
                chunks.push(Vec::new());
                rows = 0;
            }
            rows += completion.len() - 1 + if open.is_none() { group.prompt.len() } else { 0 };
            open.get_or_insert_with(|| Group { prompt: group.prompt, completions: Vec::new() })
                .completions
                .push(completion);
        }
        if let (Some(group), Some(chunk)) = (open, chunks.last_mut()) {
            chunk.push(group);
        }
    }
    chunks
}

/// Cuts a flat list into pieces of these lengths.
fn pieces(values: &[f32], lengths: &[usize]) -> Vec<Vec<f32>> {
    let mut rest = values;
    lengths
        .iter()
        .map(|len| {
            let (piece, tail) = rest.split_at(*len);
            rest = tail;
            piece.to_vec()
        })
        .collect()
}

fn lengths_of(groups: &[Group<'_>]) -> Vec<usize> {
    groups.iter().flat_map(|g| g.completions.iter().map(|c| c.len())).collect()
}

fn join(scores: Vec<Scores>) -> Scores {
    let mut all = Scores::default();
    for s in scores {
        all.log_probs.extend(s.log_probs);
        all.entropy.extend(s.entropy);
    }
    all
}

/// Per-token values of completions: one vector each, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CompletionScores {
    /// Log-probability of each token (nats).
    pub log_probs: Vec<Vec<f32>>,
    /// Entropy of the distribution of each token (nats).
    pub entropy: Vec<Vec<f32>>,
}

impl<K: Kernels> Decoder<K> {
    /// Log-probability and entropy of every completion token of `groups` under `softmax(logits / temperature)`.
    ///
    /// # Panics
    /// For empty texts, and as [`Decoder::score`].
    pub fn score_groups(
        &self,
        lora: Option<&LoraWeights<K>>,
        groups: &[Group<'_>],
        temperature: f32,
    ) -> CompletionScores {
        let scores =
            cut(groups).par_iter().map(|chunk| self.score(lora, &TokenBatch::new(chunk), temperature)).collect();
        let (scores, lengths) = (join(scores), lengths_of(groups));
        CompletionScores { log_probs: pieces(&scores.log_probs, &lengths), entropy: pieces(&scores.entropy, &lengths) }
    }

    /// As [`Decoder::score_groups`], keeping a tape for [`Decoder::backward_groups`].
    ///
    /// # Panics
    /// As [`Decoder::score_groups`].
    pub fn forward_groups(
        &self,
        lora: Option<&LoraWeights<K>>,
        groups: &[Group<'_>],
        temperature: f32,
        keep: Keep,
    ) -> (CompletionScores, GroupTape<K>) {
        let cuts = cut(groups);
        let counts = cuts.iter().map(|c| c.iter().map(|g| g.completions.len()).sum()).collect();
        let (scores, chunks): (Vec<Scores>, Vec<Tape<K>>) =
            cuts.par_iter().map(|chunk| self.forward(lora, TokenBatch::new(chunk), temperature, keep)).unzip();
        let (scores, lengths) = (join(scores), lengths_of(groups));
        let out = CompletionScores {
            log_probs: pieces(&scores.log_probs, &lengths),
            entropy: pieces(&scores.entropy, &lengths),
        };
        (out, GroupTape { chunks, lengths, counts })
    }

    /// Adds to `gradients` those of `sum w log_prob + u entropy` over all tokens, with `w` and `u` one vector a completion as
    /// the forward pass returned them; an empty `u` is zero.
    ///
    /// # Panics
    /// If `w`, or a non-empty `u`, is not laid out as the scores were.
    pub fn backward_groups(
        &self,
        lora: Option<&LoraWeights<K>>,
        tape: GroupTape<K>,
        w: &[Vec<f32>],
        u: &[Vec<f32>],
        gradients: &mut Gradients<K>,
    ) {
        let GroupTape { chunks, lengths, counts } = tape;
        let fits = |x: &[Vec<f32>]| x.iter().map(Vec::len).eq(lengths.iter().copied());
        assert!(fits(w), "one weight for each scored token");
        assert!(u.is_empty() || fits(u), "no or as many entropy weights");
        let mut first = 0;
        let work: Vec<(Tape<K>, Vec<f32>, Vec<f32>)> = chunks
            .into_iter()
            .zip(counts)
            .map(|(tape, count)| {
                let range = first..first + count;
                first += count;
                (tape, w[range.clone()].concat(), if u.is_empty() { Vec::new() } else { u[range].concat() })
            })
            .collect();
        // A chunk without weight (completions that were all equally good) has no gradient: its way back is not walked.
        let has_weight = |x: &[f32]| x.iter().any(|x| *x != 0.0);
        let work: Vec<_> = work.into_iter().filter(|(_, w, u)| has_weight(w) || has_weight(u)).collect();
        // Waves of a size that does not depend on the number of threads.
        let wave = (GRADIENT_BYTES / gradients.bytes().max(1)).clamp(1, MOST_AT_ONCE);
        let mut work = work.into_iter().enumerate();
        loop {
            let wave: Vec<_> = work.by_ref().take(wave).collect();
            if wave.is_empty() {
                return;
            }
            let parts: Vec<Gradients<K>> = wave
                .into_par_iter()
                .map(|(index, (tape, w, u))| {
                    let mut part = gradients.zeros_like(self.kernels());
                    if let Some(activity) = &mut part.activity {
                        activity.stream = index as u64;
                    }
                    self.backward(lora, tape, &w, &u, &mut part);
                    part
                })
                .collect();
            for part in parts {
                gradients.add(self.kernels(), &part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_keep_every_completion_in_order() {
        let long: Vec<u32> = (0..200).collect();
        let short: Vec<u32> = (0..30).collect();
        let groups = vec![
            Group { prompt: &short, completions: vec![&short; 3] },
            Group { prompt: &long, completions: vec![&long, &short, &long] },
            Group { prompt: &short[..1], completions: vec![&short[..1]; 5] },
        ];
        let chunks = cut(&groups);
        assert!(chunks.len() > 2);
        let flat = |groups: &[Group<'_>]| -> Vec<(usize, usize)> {
            groups.iter().flat_map(|g| g.completions.iter().map(|c| (g.prompt.len(), c.len()))).collect()
        };
        assert_eq!(chunks.iter().flat_map(|c| flat(c)).collect::<Vec<_>>(), flat(&groups));
        for chunk in &chunks {
            let rows: usize = chunk.iter().map(Group::rows).sum();
            let completions: usize = chunk.iter().map(|g| g.completions.len()).sum();
            assert!(
                completions > 0 && (rows <= CHUNK_ROWS || completions == 1),
                "{rows} rows, {completions} completions"
            );
        }
    }
}
