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

/// Groups as they are computed: cut into chunks, each of them one thread's work and, on the way back, one summand of the gradient.
/// The cut depends on the groups alone, so that ranks can share out the chunks of one forward pass.
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    chunks: Vec<Vec<Group<'a>>>,
    /// Which completions of all each chunk has.
    completions: Vec<Range<usize>>,
    /// Tokens of each completion, in order.
    lengths: Vec<usize>,
}

impl<'a> Chunks<'a> {
    /// Cuts groups; a long group is cut between completions and its prompt repeated.
    ///
    /// # Panics
    /// For empty texts.
    pub fn cut(groups: &[Group<'a>]) -> Self {
        let chunks = cut(groups);
        let lengths = groups.iter().flat_map(|g| g.completions.iter().map(|c| c.len())).collect();
        Self { completions: completions_of(&chunks), chunks, lengths }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether there are none: of no groups.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// What the chunks in `range` scored, one vector a completion.
    fn scores(&self, range: Range<usize>, scores: Vec<Scores>) -> CompletionScores {
        let completions = self.completions[range].iter().cloned().flatten();
        let lengths: Vec<usize> = completions.map(|completion| self.lengths[completion]).collect();
        let all = join(scores);
        CompletionScores { log_probs: pieces(&all.log_probs, &lengths), entropy: pieces(&all.entropy, &lengths) }
    }
}

/// A forward pass over groups, or over some of their chunks, that can be turned back.
#[derive(Debug)]
pub struct GroupTape<K: Kernels> {
    /// Of the chunks from `first` on.
    tapes: Vec<Tape<K>>,
    first: usize,
    /// Which completions of all each chunk has, those of other tapes included.
    completions: Vec<Range<usize>>,
    /// Tokens of each completion, in order.
    lengths: Vec<usize>,
}

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
        let chunks = Chunks::cut(groups);
        let score = |chunk: &Vec<Group<'_>>| self.score(lora, &TokenBatch::new(chunk), temperature);
        chunks.scores(0..chunks.len(), chunks.chunks.par_iter().map(score).collect())
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
        let chunks = Chunks::cut(groups);
        self.forward_chunks(lora, &chunks, 0..chunks.len(), temperature, keep)
    }

    /// As [`Decoder::forward_groups`] for the chunks in `range` alone: the scores are those of their completions, and the tape's
    /// [`GroupTape::micro_batches`] are theirs.
    ///
    /// # Panics
    /// As [`Decoder::score_groups`], and for a range beyond the chunks.
    pub fn forward_chunks(
        &self,
        lora: Option<&LoraWeights<K>>,
        chunks: &Chunks<'_>,
        range: Range<usize>,
        temperature: f32,
        keep: Keep,
    ) -> (CompletionScores, GroupTape<K>) {
        let forward = |chunk: &Vec<Group<'_>>| self.forward(lora, Arc::new(TokenBatch::new(chunk)), temperature, keep);
        let (scores, tapes) = chunks.chunks[range.clone()].par_iter().map(forward).unzip();
        let tape = GroupTape {
            tapes,
            first: range.start,
            completions: chunks.completions.clone(),
            lengths: chunks.lengths.clone(),
        };
        (chunks.scores(range, scores), tape)
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
    /// The chunks of the tape with the derivatives of the loss with respect to what all chunks scored, `dL/dlog_prob = w` and
    /// `dL/dentropy = u`, one vector a completion in the order of the groups; an empty `u` is zero.
    ///
    /// A chunk without weight (completions that were all equally good) has no gradient: its way back need not be walked, and it
    /// is left out. [`MicroBatch::index`] counts those that are left, chunks of other tapes included.
    ///
    /// # Panics
    /// If `w`, or a non-empty `u`, is not laid out as the scores of all chunks.
    pub fn micro_batches(self, w: &[Vec<f32>], u: &[Vec<f32>]) -> Vec<MicroBatch<K>> {
        let fits = |x: &[Vec<f32>]| x.iter().map(Vec::len).eq(self.lengths.iter().copied());
        assert!(fits(w), "one weight for each scored token");
        assert!(u.is_empty() || fits(u), "no or as many entropy weights");
        let part = |x: &[Vec<f32>], range: Range<usize>| if x.is_empty() { Vec::new() } else { x[range].concat() };
        let mut tapes: Vec<Option<Tape<K>>> = self.tapes.into_iter().map(Some).collect();
        let mut take = |chunk: usize| tapes.get_mut(chunk.checked_sub(self.first)?)?.take();
        self.completions
            .into_iter()
            .enumerate()
            .map(|(chunk, range)| (chunk, part(w, range.clone()), part(u, range)))
            .filter(|(_, w, u)| w.iter().chain(u).any(|weight| *weight != 0.0))
            .enumerate()
            .filter_map(|(index, (chunk, w, u))| Some(MicroBatch::new(index as u64, take(chunk)?, w, u)))
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
