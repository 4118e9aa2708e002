//! The order of additions, without any number.
//!
//! A node is the left-to-right sum of its up to twelve children: `((c0 + c1) + c2) + ...`. [`Fold`] takes the children of the tree
//! in order of their leaves and says what is to be added to what; whoever holds the numbers obeys. So one machine, many threads
//! and the owner of a segment across machines all add in one order, because they ask the same `Fold`.

use crate::tree::{ARITY, height, width};

/// The sum of `count` neighbouring nodes of one level, added left to right. More than one only where the first of them is the
/// first child of its parent: only then is their sum part of the parent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) level: u32,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Piece {
    pub(crate) fn leaf(index: usize) -> Self {
        Self { level: 0, first: index, count: 1 }
    }

    pub(crate) fn node(level: u32, index: usize) -> Self {
        Self { level, first: index, count: 1 }
    }

    /// The leaves below, of a tree of `n_leaves`.
    pub(crate) fn leaves(&self, n_leaves: usize) -> std::ops::Range<usize> {
        let first_of = |node: usize| node.saturating_mul(width(self.level)).min(n_leaves);
        first_of(self.first)..first_of(self.first + self.count)
    }
}

/// What to do. Accumulator `level` holds the children so far of a node of that level; `start` says that it is to be set rather
/// than added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// The piece that was pushed goes into an accumulator.
    Take { level: u32, start: bool },
    /// An accumulator is complete and goes into the one above it; then it is free.
    Carry { level: u32, start: bool },
    /// The piece that was pushed cannot be added here: children before it are elsewhere.
    Loose { piece: Piece },
    /// An accumulator is as far as it gets here; then it is free.
    Release { level: u32, piece: Piece },
}

/// Where a left-to-right pass over the leaves `start..` of a tree stands.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    start: usize,
    n_leaves: usize,
    /// Of each level from 1: children seen, index of the node, whether the accumulator holds anything.
    open: Vec<Open>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Open {
    count: usize,
    node: usize,
    has_value: bool,
}

impl Fold {
    /// A pass from leaf `start` over a tree of `n_leaves`.
    pub(crate) fn new(start: usize, n_leaves: usize) -> Self {
        Self::with_height(start, n_leaves, height(n_leaves))
    }

    /// As [`Fold::new`] for a tree that may be higher than its leaves need: nodes with a single child change nothing.
    pub(crate) fn with_height(start: usize, n_leaves: usize, height: u32) -> Self {
        // One leaf is the only child of a root, so that there is an accumulator for it.
        Self { start, n_leaves, open: vec![Open::default(); height.max(1) as usize] }
    }

    /// The level of the root, at least 1: where the sum ends up in a pass over everything.
    pub(crate) fn root(&self) -> u32 {
        self.open.len() as u32
    }

    /// Whether the root's accumulator holds a sum.
    pub(crate) fn has_sum(&self) -> bool {
        self.open.last().is_some_and(|root| root.has_value)
    }

    /// The next piece in order of leaves. One that is absent (its leaves failed and were dropped) is counted and not added.
    pub(crate) fn push(&mut self, piece: Piece, is_present: bool, mut act: impl FnMut(Op)) {
        let mut level = piece.level + 1;
        let mut node = piece.first / ARITY;
        if !self.begins_here(level, node) {
            if is_present {
                act(Op::Loose { piece });
            }
            return;
        }
        let open = &mut self.open[level as usize - 1];
        debug_assert_eq!(open.count, piece.first % ARITY, "pieces come in order");
        if is_present {
            act(Op::Take { level, start: !open.has_value });
            open.has_value = true;
        }
        open.count += piece.count;
        open.node = node;
        while self.open[level as usize - 1].count == ARITY && level < self.root() {
            if !self.carry(level, &mut act) {
                return;
            }
            level += 1;
            node /= ARITY;
            debug_assert_eq!(self.open[level as usize - 1].node, node);
        }
    }

    /// The pass ends before leaf `end`: what cannot be added further here is released, in order of leaves.
    /// A pass over the last leaf adds up to the root, whose accumulator is left as it is.
    pub(crate) fn finish(&mut self, end: usize, mut act: impl FnMut(Op)) {
        if end == self.n_leaves {
            for level in 1..self.root() {
                if self.open[level as usize - 1].count > 0 {
                    self.carry(level, &mut act);
                }
            }
            return;
        }
        self.release(act);
    }

    /// Releases what accumulators hold, the root's included.
    pub(crate) fn release(&mut self, mut act: impl FnMut(Op)) {
        for level in (1..=self.root()).rev() {
            let open = std::mem::take(&mut self.open[level as usize - 1]);
            if open.has_value {
                act(Op::Release {
                    level,
                    piece: Piece { level: level - 1, first: open.node * ARITY, count: open.count },
                });
            }
        }
    }

    /// Whether the first leaf below a node is part of this pass.
    fn begins_here(&self, level: u32, node: usize) -> bool {
        node.saturating_mul(width(level)) >= self.start
    }

    /// Adds a node, complete or the last of its level, to its parent; `false` where the parent begins elsewhere.
    fn carry(&mut self, level: u32, act: &mut impl FnMut(Op)) -> bool {
        let child = std::mem::take(&mut self.open[level as usize - 1]);
        let parent_node = child.node / ARITY;
        if !self.begins_here(level + 1, parent_node) {
            if child.has_value {
                act(Op::Release { level, piece: Piece::node(level, child.node) });
            }
            return false;
        }
        let parent = &mut self.open[level as usize];
        if child.has_value {
            act(Op::Carry { level, start: !parent.has_value });
            parent.has_value = true;
        }
        parent.count += 1;
        parent.node = parent_node;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum as text, so that its order can be read.
    #[derive(Debug, Clone, Default)]
    struct Machine {
        accumulators: Vec<String>,
        pieces: Vec<(Piece, String)>,
    }

    impl Machine {
        fn act(&mut self, op: Op, source: &str) {
            match op {
                Op::Take { level, start } => self.add(level, start, source.to_owned()),
                Op::Carry { level, start } => {
                    let child = std::mem::take(&mut self.accumulators[level as usize]);
                    self.add(level + 1, start, format!("({child})"));
                }
                Op::Loose { piece } => self.pieces.push((piece, source.to_owned())),
                Op::Release { level, piece } => {
                    let sum = std::mem::take(&mut self.accumulators[level as usize]);
                    // A whole node stands in brackets in its parent's sum; some of its children do not.
                    let sum = if piece.level == level { format!("({sum})") } else { sum };
                    self.pieces.push((piece, sum));
                }
            }
        }

        fn add(&mut self, level: u32, start: bool, text: String) {
            self.accumulators.resize((level as usize + 1).max(self.accumulators.len()), String::new());
            let to = &mut self.accumulators[level as usize];
            assert_eq!(start, to.is_empty());
            *to = if start { text } else { format!("{to}+{text}") };
        }
    }

    /// The tree by its definition.
    fn naive(level: u32, node: usize, n_leaves: usize) -> String {
        if level == 0 {
            return node.to_string();
        }
        let children = (node * ARITY..(node + 1) * ARITY).filter(|child| child * width(level - 1) < n_leaves);
        let text: Vec<String> = children.map(|child| naive(level - 1, child, n_leaves)).collect();
        format!("({})", text.join("+"))
    }

    fn fold_range(range: std::ops::Range<usize>, n_leaves: usize) -> (Machine, Fold) {
        let (mut machine, mut fold) = (Machine::default(), Fold::new(range.start, n_leaves));
        for leaf in range.clone() {
            fold.push(Piece::leaf(leaf), true, |op| machine.act(op, &leaf.to_string()));
        }
        fold.finish(range.end, |op| machine.act(op, "?"));
        (machine, fold)
    }

    #[test]
    fn one_pass_over_everything_is_the_tree() {
        for n_leaves in [1, 2, 11, 12, 13, 24, 143, 144, 145, 150, 1_728, 1_730] {
            let (machine, fold) = fold_range(0..n_leaves, n_leaves);
            assert!(machine.pieces.is_empty() && fold.has_sum());
            let root = fold.root();
            assert_eq!(format!("({})", machine.accumulators[root as usize]), naive(root, 0, n_leaves), "{n_leaves}");
        }
    }

    #[test]
    fn cut_anywhere_and_put_together_it_is_the_same_tree() {
        for n_leaves in [1, 5, 12, 13, 25, 144, 157, 300, 1_729] {
            for size in [1, 2, 3, 4, 7, 12, 13] {
                let (mut whole, mut fold) = (Machine::default(), Fold::new(0, n_leaves));
                for rank in 0..size {
                    let range = crate::tree::share(n_leaves, rank, size);
                    let (mut part, mut own) = fold_range(range.clone(), n_leaves);
                    own.release(|op| part.act(op, "?"));
                    // At most eleven at each edge of each level.
                    assert!(part.pieces.len() <= 22 * fold.root() as usize);
                    for (piece, text) in part.pieces {
                        fold.push(piece, true, |op| whole.act(op, &text));
                    }
                }
                fold.finish(n_leaves, |op| whole.act(op, "?"));
                let root = fold.root();
                let found = format!("({})", whole.accumulators[root as usize]);
                assert_eq!(found, naive(root, 0, n_leaves), "{n_leaves} over {size}");
            }
        }
    }

    #[test]
    fn what_is_absent_is_left_out_and_moves_nothing() {
        let n_leaves = 30;
        let (mut machine, mut fold) = (Machine::default(), Fold::new(0, n_leaves));
        for leaf in 0..n_leaves {
            fold.push(Piece::leaf(leaf), leaf != 0 && !(12..24).contains(&leaf), |op| {
                machine.act(op, &leaf.to_string());
            });
        }
        fold.finish(n_leaves, |op| machine.act(op, "?"));
        assert_eq!(machine.accumulators[2], "(1+2+3+4+5+6+7+8+9+10+11)+(24+25+26+27+28+29)");
    }
}
