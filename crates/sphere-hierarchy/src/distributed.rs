//! The tree across ranks: every rank adds what lies within its leaves, and owns a segment of the parameters for the rest.

use std::borrow::Cow;

use crate::collective::{Collective, SMALL_BYTES, gather_by_doubling};
use crate::engine::Partial;
use crate::error::{Error, Result};
use crate::fold::Piece;
use crate::reduce::kernel::{NORM_BLOCK, Weighted};
use crate::reduce::{Accumulation, PieceErrors, fold_tiles};
use crate::tree::share;

/// Pieces of the tree with their sums, in order of leaves.
pub(crate) type Pieces = Vec<(Piece, Partial)>;

/// Shapes of pieces, for other ranks.
fn to_bytes(pieces: &[(Piece, Partial)]) -> Vec<u8> {
    let numbers = |piece: &Piece| [u64::from(piece.level), piece.first as u64, piece.count as u64];
    pieces.iter().flat_map(|(piece, _)| numbers(piece)).flat_map(u64::to_le_bytes).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<Piece> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let numbers: Vec<u64> = numbers.iter().map(|x| u64::from_le_bytes(*x)).collect();
    let (triples, _) = numbers.as_chunks::<3>();
    triples
        .iter()
        .map(|[level, first, count]| Piece { level: *level as u32, first: *first as usize, count: *count as usize })
        .collect()
}

/// Adds the pieces of all ranks into `out` on every rank, in the order of the tree of `n_leaves`, which is the order of one
/// machine. `norms` are the sums of squares of blocks. Returns the bytes that this rank sent.
pub(crate) fn add_across(
    collective: &dyn Collective,
    n_leaves: usize,
    mine: Pieces,
    accumulation: Accumulation,
    out: &mut [f32],
    norms: &mut [f64],
) -> Result<u64> {
    let shapes: Vec<Vec<Piece>> = collective.gather_bytes(&to_bytes(&mine))?.iter().map(|b| from_bytes(b)).collect();
    let counts: Vec<usize> = shapes.iter().map(Vec::len).collect();
    let pieces: Vec<Piece> = shapes.concat();
    let parts = if accumulation == Accumulation::Compensated { 2 } else { 1 };
    // Below that everybody gets everything and adds it all: latency costs more than adding.
    let small = counts.iter().sum::<usize>() * parts * out.len() * size_of::<f32>() <= SMALL_BYTES;
    // Whole blocks of the norm, so that its sums are those of one machine.
    let len = out.len();
    let segment = |rank: usize| {
        if small {
            return 0..len;
        }
        let blocks = share(len.div_ceil(NORM_BLOCK), rank, collective.size());
        (blocks.start * NORM_BLOCK).min(len)..(blocks.end * NORM_BLOCK).min(len)
    };
    let own = segment(collective.rank());
    let ranks = 0..collective.size();
    let lay_out = |at: std::ops::Range<usize>| {
        mine.iter().flat_map(move |(_, part)| [part.sum.get(at.clone()), part.error.get(at.clone())]).flatten()
    };
    let recv_counts: Vec<usize> = counts.iter().map(|count| count * parts * own.len()).collect();
    let mut received = vec![0.0; recv_counts.iter().sum()];
    let mut sent: usize;
    if small {
        let send: Vec<f32> = lay_out(own.clone()).flatten().copied().collect();
        gather_by_doubling(collective, &send, &mut received, &recv_counts)?;
        sent = send.len() * (collective.size() - 1);
    } else {
        // A single piece is laid out as its segments already.
        let send: Cow<'_, [f32]> = match &mine[..] {
            [(_, only)] if parts == 1 => Cow::Borrowed(&only.sum),
            _ => ranks.clone().flat_map(|rank| lay_out(segment(rank)).flatten().copied()).collect(),
        };
        let send_counts: Vec<usize> = ranks.clone().map(|rank| mine.len() * parts * segment(rank).len()).collect();
        sent = send.len() - send_counts[collective.rank()];
        collective.exchange_segments(&send, &send_counts, &mut received, &recv_counts)?;
    }
    let chunks = |which: usize| -> Vec<&[f32]> {
        if own.is_empty() {
            return vec![&[]; pieces.len()];
        }
        received.chunks_exact(own.len()).skip(which).step_by(parts).collect()
    };
    let sources: Vec<Weighted<'_, f32>> =
        chunks(0).into_iter().map(|values| Weighted { values, weight: 1.0 }).collect();
    let errors = if parts == 2 { chunks(1) } else { Vec::new() };
    let norm_blocks = own.start / NORM_BLOCK..own.end.div_ceil(NORM_BLOCK);
    if pieces.is_empty() {
        return Err(Error::NothingLeft { n_batches: n_leaves });
    }
    fold_tiles(
        n_leaves,
        &pieces,
        &sources,
        PieceErrors(&errors),
        accumulation,
        &mut out[own.clone()],
        &mut norms[norm_blocks.clone()],
    );
    if !small {
        let lengths: Vec<usize> = ranks.map(|rank| segment(rank).len()).collect();
        let mine = out[own].to_vec();
        sent += mine.len() * (collective.size() - 1);
        collective.gather_segments(&mine, out, &lengths)?;
        let bytes: Vec<u8> = norms[norm_blocks].iter().flat_map(|x| x.to_le_bytes()).collect();
        let all = collective.gather_bytes(&bytes)?.concat();
        let (all, _) = all.as_chunks::<8>();
        if all.len() != norms.len() {
            return Err(Error::Counts { what: "sums of squares", expected: norms.len(), found: all.len() });
        }
        norms.iter_mut().zip(all).for_each(|(to, from)| *to = f64::from_le_bytes(*from));
    }
    Ok((sent * size_of::<f32>()) as u64)
}
