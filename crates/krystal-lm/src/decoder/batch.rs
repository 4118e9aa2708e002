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
    ///
    /// # Panics
    /// If the prompt or a completion is empty.
    pub fn rows(&self) -> usize {
        self.check();
        self.prompt.len() + self.completions.iter().map(|c| c.len() - 1).sum::<usize>()
    }

    /// Stops a caller that has nothing to predict from, or nothing to predict.
    pub(super) fn check(&self) {
        assert!(!self.prompt.is_empty(), "a prompt needs at least one token");
        assert!(self.completions.iter().all(|c| !c.is_empty()), "a completion needs at least one token");
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
    ///
    /// # Panics
    /// If a prompt or a completion is empty.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a Group<'a>>) -> Self {
        let mut batch = Self::default();
        for group in groups {
            group.check();
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

    /// Stops a caller whose batch contradicts itself or the model.
    pub(super) fn check(&self, vocab_size: usize) {
        let rows = self.rows();
        assert!(self.positions.len() == rows, "{} positions for {rows} tokens", self.positions.len());
        let scored = self.scored.len();
        assert!(self.targets.len() == scored, "{} targets for {scored} scored rows", self.targets.len());
        if let Some(row) = self.scored.iter().find(|row| **row >= rows) {
            panic!("row {row} is scored, but there are {rows}");
        }
        for (what, tokens) in [("row {} has", &self.tokens), ("target {} is", &self.targets)] {
            if let Some(i) = tokens.iter().position(|t| *t as usize >= vocab_size) {
                let what = what.replace("{}", &i.to_string());
                panic!("{what} token {}, but the vocabulary ends at {vocab_size}", tokens[i]);
            }
        }
        let mut covered = 0;
        for (i, segment) in self.segments.iter().enumerate() {
            assert!(segment.start == covered && segment.len > 0, "segment {i} does not start at row {covered}");
            covered += segment.len;
            if let Some(prefix) = segment.prefix {
                let fits = prefix < i && self.segments[prefix].prefix.is_none();
                assert!(fits, "segment {i} continues {prefix}, which is not an earlier segment without prefix");
            }
        }
        assert!(covered == rows, "segments cover {covered} of {rows} rows");
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
