//! Groups of completions laid out as rows.

use crate::kernels::Segment;

/// A prompt and some of its completions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// Prompt tokens, at least one.
    pub prompt: &'a [u32],
    /// Completions, each at least one token.
    pub completions: Vec<&'a [u32]>,
}

impl Group<'_> {
    /// Rows that the group needs: a prompt's tokens once, and of each completion all but the last token.
    pub fn rows(&self) -> usize {
        self.prompt.len() + self.completions.iter().map(|c| c.len() - 1).sum::<usize>()
    }
}

/// Rows of a forward pass, and which of them predict which token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// Token of each row, `(R)`.
    pub tokens: Vec<u32>,
    /// Position of each row within its sequence, `(R)`.
    pub positions: Vec<u32>,
    /// Sequences and continuations.
    pub segments: Vec<Segment>,
    /// Rows whose next token is scored, completion after completion, `(S)`.
    pub scored: Vec<usize>,
    /// The tokens scored, `(S)`.
    pub targets: Vec<u32>,
}

impl TokenBatch {
    /// Lays out groups: each prompt once, its completions behind it. A completion's first token is predicted by the prompt's
    /// last row; its last token predicts nothing and gets no row.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a Group<'a>>) -> Self {
        let mut batch = Self::default();
        for group in groups {
            let prompt = batch.segments.len();
            batch.push(group.prompt, 0, None);
            let last = batch.tokens.len() - 1;
            for completion in &group.completions {
                batch.scored.push(last);
                let first = batch.tokens.len();
                batch.scored.extend(first..first + completion.len() - 1);
                batch.targets.extend_from_slice(completion);
                if completion.len() > 1 {
                    batch.push(&completion[..completion.len() - 1], group.prompt.len(), Some(prompt));
                }
            }
        }
        batch
    }

    /// Prompts alone, nothing scored: the prefill of generation.
    pub fn prompts(prompts: &[&[u32]]) -> Self {
        let mut batch = Self::default();
        for prompt in prompts {
            batch.push(prompt, 0, None);
        }
        batch
    }

    fn push(&mut self, tokens: &[u32], first_position: usize, prefix: Option<usize>) {
        self.segments.push(Segment { start: self.tokens.len(), len: tokens.len(), prefix });
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((first_position..first_position + tokens.len()).map(|p| p as u32));
    }

    /// Rows (R).
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Positions that occur, plus one.
    pub fn max_positions(&self) -> usize {
        self.positions.iter().max().map_or(0, |p| *p as usize + 1)
    }
}
