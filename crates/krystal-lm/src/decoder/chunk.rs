//! Many groups at once, over threads.
//!
//! Groups are cut into chunks of about [`CHUNK_ROWS`] rows, and the cut depends on the groups alone. Chunks run in parallel
//! forward; backward each is a [`MicroBatch`], whose gradients are summed in an order that does not depend on threads.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Decoder, Gradients, Group, Keep, MicroBatch, Scores, Tape, TokenBatch};
use crate::kernels::Kernels;
use crate::lora::LoraWeights;

/// Rows a chunk is filled up to. Enough for the matrix kernel to run at its peak, few enough that two threads share a group.
const CHUNK_ROWS: usize = 256;

/// A forward pass over groups that can be turned back.
#[derive(Debug)]
pub struct GroupTape<K: Kernels> {
    chunks: Vec<ChunkTape<K>>,
    /// Tokens of each completion, in order.
    lengths: Vec<usize>,
}

/// The forward pass of one chunk.
#[derive(Debug)]
struct ChunkTape<K: Kernels> {
    tape: Tape<K>,
    /// Which completions of all the chunk has.
    completions: Range<usize>,
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

/// Which completions of all each chunk has.
fn completions_of(chunks: &[Vec<Group<'_>>]) -> Vec<Range<usize>> {
    let mut first = 0;
    let count = |chunk: &Vec<Group<'_>>| chunk.iter().map(|group| group.completions.len()).sum::<usize>();
    chunks
        .iter()
        .map(|chunk| {
            let range = first..first + count(chunk);
            first = range.end;
            range
        })
        .collect()
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
        let chunks = cut(groups);
        let (scores, tapes): (Vec<Scores>, Vec<Tape<K>>) = chunks
            .par_iter()
            .map(|chunk| self.forward(lora, Arc::new(TokenBatch::new(chunk)), temperature, keep))
            .unzip();
        let (scores, lengths) = (join(scores), lengths_of(groups));
        let out = CompletionScores {
            log_probs: pieces(&scores.log_probs, &lengths),
            entropy: pieces(&scores.entropy, &lengths),
        };
        let chunks = tapes.into_iter().zip(completions_of(&chunks));
        let chunks = chunks.map(|(tape, completions)| ChunkTape { tape, completions }).collect();
        (out, GroupTape { chunks, lengths })
    }

    /// Adds to `gradients` those of `sum w log_prob + u entropy` over all tokens, micro-batch after micro-batch: see
    /// [`GroupTape::micro_batches`]. Who has threads to spare sums those by a tree instead.
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
        let mut part = gradients.zeros_like(self.kernels());
        for batch in tape.micro_batches(w, u) {
            part.clear(self.kernels());
            self.backward_micro_batch(lora, &batch, &mut part);
            gradients.add(self.kernels(), &part);
        }
    }
}

impl<K: Kernels> GroupTape<K> {
    /// The chunks with the derivatives of the loss with respect to what they scored, `dL/dlog_prob = w` and
    /// `dL/dentropy = u`, one vector a completion as the forward pass returned them; an empty `u` is zero.
    ///
    /// A chunk without weight (completions that were all equally good) has no gradient: its way back need not be walked, and it
    /// is left out.
    ///
    /// # Panics
    /// If `w`, or a non-empty `u`, is not laid out as the scores were.
    pub fn micro_batches(self, w: &[Vec<f32>], u: &[Vec<f32>]) -> Vec<MicroBatch<K>> {
        let fits = |x: &[Vec<f32>]| x.iter().map(Vec::len).eq(self.lengths.iter().copied());
        assert!(fits(w), "one weight for each scored token");
        assert!(u.is_empty() || fits(u), "no or as many entropy weights");
        let part = |x: &[Vec<f32>], range: Range<usize>| if x.is_empty() { Vec::new() } else { x[range].concat() };
        self.chunks
            .into_iter()
            .map(|chunk| (chunk.tape, part(w, chunk.completions.clone()), part(u, chunk.completions)))
            .filter(|(_, w, u)| w.iter().chain(u).any(|weight| *weight != 0.0))
            .enumerate()
            .map(|(index, (tape, w, u))| MicroBatch::new(index as u64, tape, w, u))
            .collect()
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
        let ranges = completions_of(&chunks);
        assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
        for (chunk, range) in chunks.iter().zip(ranges) {
            let rows: usize = chunk.iter().map(Group::rows).sum();
            let completions: usize = chunk.iter().map(|g| g.completions.len()).sum();
            assert_eq!(completions, range.len());
            assert!(
                completions > 0 && (rows <= CHUNK_ROWS || completions == 1),
                "{rows} rows, {completions} completions"
            );
        }
    }
}
