//! Grouped-query attention with causal and sliding masks.
//!
//! Queries attend to a shared prefix and to their own segment. Training, scoring and decoding go through [`attend`], so that a
//! token decoded alone gets the bits that it gets when scored in a batch: scores are chains over the head's width, the softmax
//! sums 16 lanes over positions in order (prefix first), outputs are chains over positions; masked positions weigh exactly zero.

use std::ops::Range;

use super::kv::{KvHead, KvSlot};
use super::matmul::{self, Left, Right};
use super::simd::{LANES, dot, exp, max, multiversion, sum};
use crate::kernels::{AttentionShape, CachedQuery, Segment, Write};

/// Query rows computed at a time.
const BLOCK: usize = 64;

/// Positions that one query sees: a range of the prefix and a range of its own segment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Visible {
    prefix: Range<usize>,
    own: Range<usize>,
}

impl Visible {
    /// What the query at `index` of its own segment sees after a prefix of `prefix` positions.
    fn new(prefix: usize, index: usize, window: Option<usize>) -> Self {
        let first = window.map_or(0, |w| (prefix + index + 1).saturating_sub(w));
        Self { prefix: first.min(prefix)..prefix, own: first.saturating_sub(prefix)..index + 1 }
    }
}

/// Scratch of one thread.
#[derive(Debug, Default)]
struct Scratch {
    weights: Vec<f32>,
    gradients: Vec<f32>,
}

/// Where a query block's weights lie: `prefix_width` columns for the prefix, then those of the segment, rows of `width`.
#[derive(Debug, Clone, Copy)]
struct Layout {
    prefix_len: usize,
    prefix_width: usize,
    own_len: usize,
    width: usize,
}

impl Layout {
    fn new(prefix_len: usize, own_len: usize) -> Self {
        let prefix_width = prefix_len.next_multiple_of(LANES);
        Self { prefix_len, prefix_width, own_len, width: prefix_width + own_len.next_multiple_of(LANES) }
    }
}

multiversion! {
    /// Scores to weights, row by row: masked softmax of `scale * score`.
    fn softmax(weights: &mut [f32], layout: Layout, visible: &[Visible], scale: f32) {
        for (row, visible) in weights.chunks_exact_mut(layout.width).zip(visible) {
            let (prefix, own) = row.split_at_mut(layout.prefix_width);
            let mut top = [f32::NEG_INFINITY; LANES];
            for (part, range) in [(&mut *prefix, &visible.prefix), (&mut *own, &visible.own)] {
                for (p, lanes) in part.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                    let base = p * LANES;
                    if base >= range.start && base + LANES <= range.end {
                        for l in 0..LANES {
                            lanes[l] *= scale;
                            top[l] = if lanes[l] > top[l] { lanes[l] } else { top[l] };
                        }
                    } else {
                        for l in 0..LANES {
                            lanes[l] = if range.contains(&(base + l)) { lanes[l] * scale } else { f32::NEG_INFINITY };
                            top[l] = if lanes[l] > top[l] { lanes[l] } else { top[l] };
                        }
                    }
                }
            }
            let top = max(top);
            let mut total = [0.0_f32; LANES];
            for (part, range) in [(&mut *prefix, &visible.prefix), (&mut *own, &visible.own)] {
                for (p, lanes) in part.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                    let base = p * LANES;
                    if base >= range.end || base + LANES <= range.start {
                        *lanes = [0.0; LANES];
                        continue;
                    }
                    let mut shifted = [0.0; LANES];
                    for l in 0..LANES {
                        shifted[l] = lanes[l] - top;
                    }
                    let e = exp(shifted);
                    for l in 0..LANES {
                        lanes[l] = if lanes[l] == f32::NEG_INFINITY { 0.0 } else { e[l] };
                        total[l] += lanes[l];
                    }
                }
            }
            let inverse = 1.0 / sum(total);
            for w in row.iter_mut() {
                *w *= inverse;
            }
        }
    }
}

/// Fills `weights` with the attention weights of `m` queries.
#[allow(clippy::too_many_arguments, reason = "queries, two sources of keys, masks and a result")]
fn attention_weights(
    q: Left<'_>,
    m: usize,
    prefix: Option<&KvHead>,
    own: &KvHead,
    layout: Layout,
    visible: &[Visible],
    shape: AttentionShape,
    weights: &mut Vec<f32>,
) {
    let d = shape.head_dim;
    weights.clear();
    weights.resize(m * layout.width, 0.0);
    if let Some(prefix) = prefix {
        matmul::multiply(
            m,
            layout.prefix_width,
            d,
            q,
            Right::panels(prefix.keys(), d),
            weights,
            layout.width,
            Write::Replace,
        );
    }
    let own_width = layout.width - layout.prefix_width;
    matmul::multiply(
        m,
        own_width,
        d,
        q,
        Right::panels(own.keys(), d),
        &mut weights[layout.prefix_width..],
        layout.width,
        Write::Replace,
    );
    softmax(weights, layout, visible, 1.0 / (d as f32).sqrt());
}

/// Attention of `m` queries: `out[r]`, rows of `out_stride`.
#[allow(clippy::too_many_arguments, reason = "queries, two sources of keys and values, masks and a result")]
fn attend(
    q: Left<'_>,
    m: usize,
    prefix: Option<&KvHead>,
    own: &KvHead,
    layout: Layout,
    visible: &[Visible],
    shape: AttentionShape,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut Scratch,
) {
    attention_weights(q, m, prefix, own, layout, visible, shape, &mut scratch.weights);
    let d = shape.head_dim;
    let weights = |from: usize| Left { data: &scratch.weights[from..], row_stride: layout.width, step_stride: 1 };
    let mut write = Write::Replace;
    if let Some(prefix) = prefix {
        let right = Right::panels(prefix.values(), prefix.capacity());
        matmul::multiply(m, d, layout.prefix_len, weights(0), right, out, out_stride, write);
        write = Write::Add;
    }
    let right = Right::panels(own.values(), own.capacity());
    matmul::multiply(m, d, layout.own_len, weights(layout.prefix_width), right, out, out_stride, write);
}

/// The head `kv_head` of rows `segment` of `k` and `v`.
fn pack(k: &[f32], v: &[f32], segment: &Segment, kv_head: usize, shape: AttentionShape) -> KvHead {
    let (d, stride) = (shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut head = KvHead::new(d);
    head.reserve(segment.len);
    for row in segment.start..segment.start + segment.len {
        let at = row * stride + kv_head * d;
        head.push(&k[at..at + d], &v[at..at + d]);
    }
    head
}

/// Which segments others continue.
fn shared(segments: &[Segment]) -> Vec<bool> {
    let mut shared = vec![false; segments.len()];
    for prefix in segments.iter().filter_map(|s| s.prefix) {
        shared[prefix] = true;
    }
    shared
}

/// Calls `visit` for every segment with its own and its prefix's keys and values of one head.
fn for_each_segment(
    k: &[f32],
    v: &[f32],
    segments: &[Segment],
    kv_head: usize,
    shape: AttentionShape,
    mut visit: impl FnMut(usize, Option<&KvHead>, &KvHead),
) {
    let shared = shared(segments);
    let mut kept: Vec<Option<KvHead>> = Vec::with_capacity(segments.len());
    for (s, segment) in segments.iter().enumerate() {
        let own = pack(k, v, segment, kv_head, shape);
        let prefix = segment.prefix.map(|p| kept[p].as_ref().expect("a prefix precedes its continuations"));
        visit(s, prefix, &own);
        kept.push(shared[s].then_some(own));
    }
}

/// See [`crate::kernels::Kernels::attention`].
pub(super) fn forward(q: &[f32], k: &[f32], v: &[f32], segments: &[Segment], shape: AttentionShape, out: &mut [f32]) {
    let (d, q_stride) = (shape.head_dim, shape.heads * shape.head_dim);
    let group = shape.heads / shape.kv_heads;
    let mut scratch = Scratch::default();
    for kv_head in 0..shape.kv_heads {
        for_each_segment(k, v, segments, kv_head, shape, |s, prefix, own| {
            let segment = &segments[s];
            let prefix_len = prefix.map_or(0, KvHead::len);
            for first in (0..segment.len).step_by(BLOCK) {
                let m = BLOCK.min(segment.len - first);
                let layout = Layout::new(prefix_len, first + m);
                let visible: Vec<Visible> =
                    (first..first + m).map(|i| Visible::new(prefix_len, i, shape.window)).collect();
                for head in kv_head * group..(kv_head + 1) * group {
                    let at = (segment.start + first) * q_stride + head * d;
                    let queries = Left { data: &q[at..], row_stride: q_stride, step_stride: 1 };
                    attend(queries, m, prefix, own, layout, &visible, shape, &mut out[at..], q_stride, &mut scratch);
                }
            }
        });
    }
}

/// See [`crate::kernels::Kernels::attention_cached`].
pub(super) fn cached(
    q: &[f32],
    queries: &[CachedQuery<'_, KvSlot>],
    layer: usize,
    shape: AttentionShape,
    out: &mut [f32],
) {
    let (d, q_stride) = (shape.head_dim, shape.heads * shape.head_dim);
    let group = shape.heads / shape.kv_heads;
    let mut scratch = Scratch::default();
    for query in queries {
        for kv_head in 0..shape.kv_heads {
            let own = query.own.head(layer, kv_head);
            assert!(own.len() > 0, "the query's own key and value must have been appended");
            let prefix = query.prefix.map(|p| p.head(layer, kv_head));
            let prefix_len = prefix.map_or(0, KvHead::len);
            let layout = Layout::new(prefix_len, own.len());
            let visible = vec![Visible::new(prefix_len, own.len() - 1, shape.window); group];
            let at = query.row * q_stride + kv_head * group * d;
            let heads = Left { data: &q[at..], row_stride: d, step_stride: 1 };
            attend(heads, group, prefix, own, layout, &visible, shape, &mut out[at..], d, &mut scratch);
        }
    }
}

multiversion! {
    /// `out[r] = a[r] . b[r]` for rows of `d` that are `stride` apart.
    fn row_dots(a: &[f32], b: &[f32], stride: usize, d: usize, out: &mut [f32]) {
        for (r, out) in out.iter_mut().enumerate() {
            let row = r * stride..r * stride + d;
            *out = dot(&a[row.clone()], &b[row]);
        }
    }
}

multiversion! {
    /// `dS = P (dP - D) scale` in place of `dP`, with `D = d_out . out` of each row.
    fn score_gradient(weights: &[f32], gradients: &mut [f32], width: usize, d: &[f32], scale: f32) {
        for ((w, g), d) in weights.chunks_exact(width).zip(gradients.chunks_exact_mut(width)).zip(d) {
            for (w, g) in w.iter().zip(g) {
                *g = w * (*g - d) * scale;
            }
        }
    }
}

/// Rows `segment` of one head of a `(R, heads * head_dim)` buffer.
fn head_rows(buffer: &[f32], row: usize, head: usize, stride: usize, d: usize) -> &[f32] {
    &buffer[row * stride + head * d..]
}

/// See [`crate::kernels::Kernels::attention_backward`].
#[allow(clippy::too_many_arguments, reason = "three operands, the result and their four gradients")]
pub(super) fn backward(
    d_out: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    segments: &[Segment],
    shape: AttentionShape,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let d = shape.head_dim;
    let (q_stride, kv_stride) = (shape.heads * d, shape.kv_heads * d);
    let group = shape.heads / shape.kv_heads;
    let scale = 1.0 / (d as f32).sqrt();
    dk.fill(0.0);
    dv.fill(0.0);
    let mut scratch = Scratch::default();
    let shared = shared(segments);
    for kv_head in 0..shape.kv_heads {
        // The products of the backward pass read keys and values in each other's layout: swap their roles.
        let mut swapped: Vec<Option<KvHead>> = vec![None; segments.len()];
        for_each_segment(k, v, segments, kv_head, shape, |s, prefix, own| {
            let segment = &segments[s];
            swapped[s] = Some(pack(v, k, segment, kv_head, shape));
            let own_swapped = swapped[s].as_ref().expect("just packed");
            let prefix_swapped = segment.prefix.and_then(|p| swapped[p].as_ref());
            let prefix_start = segment.prefix.map_or(0, |p| segments[p].start);
            let prefix_len = prefix.map_or(0, KvHead::len);
            for first in (0..segment.len).step_by(BLOCK) {
                let m = BLOCK.min(segment.len - first);
                let row = segment.start + first;
                let layout = Layout::new(prefix_len, first + m);
                let visible: Vec<Visible> =
                    (first..first + m).map(|i| Visible::new(prefix_len, i, shape.window)).collect();
                for head in kv_head * group..(kv_head + 1) * group {
                    let at = row * q_stride + head * d;
                    let strided = |data| Left { data, row_stride: q_stride, step_stride: 1 };
                    attention_weights(strided(&q[at..]), m, prefix, own, layout, &visible, shape, &mut scratch.weights);
                    // dP = d_out V^T
                    let gradients = &mut scratch.gradients;
                    gradients.clear();
                    gradients.resize(m * layout.width, 0.0);
                    let up = strided(&d_out[at..]);
                    if let Some(p) = prefix_swapped {
                        matmul::multiply(
                            m,
                            layout.prefix_width,
                            d,
                            up,
                            Right::panels(p.keys(), d),
                            gradients,
                            layout.width,
                            Write::Replace,
                        );
                    }
                    let own_width = layout.width - layout.prefix_width;
                    let own_gradients = &mut gradients[layout.prefix_width..];
                    matmul::multiply(
                        m,
                        own_width,
                        d,
                        up,
                        Right::panels(own_swapped.keys(), d),
                        own_gradients,
                        layout.width,
                        Write::Replace,
                    );
                    let mut dots = [0.0; BLOCK];
                    row_dots(&d_out[at..], &out[at..], q_stride, d, &mut dots[..m]);
                    score_gradient(&scratch.weights, gradients, layout.width, &dots, scale);
                    // dQ = dS K
                    let rows = |data, from: usize| Left {
                        data: &(data as &[f32])[from..],
                        row_stride: layout.width,
                        step_stride: 1,
                    };
                    let mut write = Write::Replace;
                    if let Some(p) = prefix_swapped {
                        let right = Right::panels(p.values(), p.capacity());
                        matmul::multiply(
                            m,
                            d,
                            layout.prefix_len,
                            rows(&scratch.gradients, 0),
                            right,
                            &mut dq[at..],
                            q_stride,
                            write,
                        );
                        write = Write::Add;
                    }
                    let right = Right::panels(own_swapped.values(), own_swapped.capacity());
                    let left = rows(&scratch.gradients, layout.prefix_width);
                    matmul::multiply(m, d, layout.own_len, left, right, &mut dq[at..], q_stride, write);
                    // dK += dS^T Q and dV += P^T d_out, over the prefix and over the segment.
                    let parts =
                        [(0, layout.prefix_len, prefix_start), (layout.prefix_width, layout.own_len, segment.start)];
                    for (column, len, start) in parts {
                        if len == 0 {
                            continue;
                        }
                        let to = start * kv_stride + kv_head * d;
                        for (scores, rows, gradient) in
                            [(&scratch.gradients, q, &mut *dk), (&scratch.weights, d_out, &mut *dv)]
                        {
                            let left = Left { data: &scores[column..], row_stride: 1, step_stride: layout.width };
                            let rows = head_rows(rows, row, head, q_stride, d);
                            matmul::outer(left, len, rows, q_stride, d, m, &mut gradient[to..], kv_stride, Write::Add);
                        }
                    }
                }
            }
            if !shared[s] {
                swapped[s] = None;
            }
        });
    }
}
