//! Kernels for processors: AVX-512, AVX2 or whatever the target has, chosen at run time; rayon where work is large.

mod attention;
mod fold;
mod kv;
pub(crate) mod log_prob;
mod matmul;
mod norm;
mod panel;
mod rope;
pub(crate) mod simd;
mod swiglu;

use crate::kernels::{
    AttentionShape, CachedQuery, Kernels, LogProbWeights, LogProbs, RopeTable, Rotation, Segment, Write,
};

pub use kv::KvSlot;
pub use panel::Panels;

/// The processor. Buffers are vectors, matrices are [`Panels`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Cpu {
    /// The instruction set in use: `AVX-512`, `AVX2` or `portable`.
    pub fn instruction_set() -> &'static str {
        match simd::Level::detect() {
            simd::Level::Avx512 => "AVX-512",
            simd::Level::Avx2 => "AVX2",
            simd::Level::Portable => "portable",
        }
    }
}

impl Kernels for Cpu {
    type Buffer = Vec<f32>;
    type Matrix = Panels;
    type KvSlot = KvSlot;

    fn zeros(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    fn upload(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn download(&self, buffer: &Vec<f32>) -> Vec<f32> {
        buffer.clone()
    }

    fn len(&self, buffer: &Vec<f32>) -> usize {
        buffer.len()
    }

    fn read(&self, buffer: &Vec<f32>, to: &mut [f32]) {
        demand("to", to, 1, buffer.len());
        to.copy_from_slice(buffer);
    }

    fn copy(&self, from: &Vec<f32>, to: &mut Vec<f32>) {
        to.clone_from(from);
    }

    fn clear(&self, buffer: &mut Vec<f32>, len: usize) {
        buffer.clear();
        buffer.resize(len, 0.0);
    }

    fn add(&self, from: &Vec<f32>, to: &mut Vec<f32>) {
        demand("from", from, 1, to.len());
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }

    fn scale(&self, buffer: &mut Vec<f32>, factor: f32) {
        for value in buffer {
            *value *= factor;
        }
    }

    fn matrix(&self, rows: &[f32], n: usize, k: usize) -> Panels {
        Panels::pack(rows, n, k)
    }

    fn matrix_rows(&self, matrix: &Panels) -> Vec<f32> {
        matrix.unpack()
    }

    fn embed(&self, table: &Panels, ids: &[u32], out: &mut Vec<f32>) {
        let width = table.k();
        if let Some(id) = ids.iter().find(|id| **id as usize >= table.n()) {
            panic!("id {id}, but the table has {} rows", table.n());
        }
        resize(out, ids.len() * width);
        for (id, row) in ids.iter().zip(out.chunks_exact_mut(width)) {
            table.row(*id as usize, row);
        }
    }

    fn embed_backward(&self, d_out: &Vec<f32>, ids: &[u32], width: usize, d_table: &mut Vec<f32>) {
        demand("d_out", d_out, ids.len(), width);
        for (id, row) in ids.iter().zip(d_out.chunks_exact(width)) {
            for (to, from) in d_table[*id as usize * width..].iter_mut().zip(row) {
                *to += from;
            }
        }
    }

    fn linear(&self, x: &Vec<f32>, rows: usize, w: &Panels, bias: Option<&Vec<f32>>, y: &mut Vec<f32>, write: Write) {
        demand("x", x, rows, w.k());
        resize(y, product(rows, w.n()));
        matmul::linear(x, rows, w, y, write);
        if let Some(bias) = bias {
            demand("bias", bias, 1, w.n());
            for row in y.chunks_exact_mut(w.n()) {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        }
    }

    fn linear_backward(&self, dy: &Vec<f32>, rows: usize, w: &Panels, dx: &mut Vec<f32>, write: Write) {
        demand("dy", dy, rows, w.n());
        resize(dx, product(rows, w.k()));
        matmul::linear_backward(dy, rows, w, dx, write);
    }

    fn weight_gradient(&self, dy: &Vec<f32>, n: usize, x: &Vec<f32>, k: usize, rows: usize, dw: &mut Vec<f32>) {
        demand("dy", dy, rows, n);
        demand("x", x, rows, k);
        demand("dw", dw, n, k);
        matmul::weight_gradient(dy, n, x, k, rows, dw, Write::Add);
    }

    fn bias_gradient(&self, dy: &Vec<f32>, n: usize, db: &mut Vec<f32>) {
        demand("db", db, 1, n);
        demand_rows("dy", dy, n);
        for row in dy.chunks_exact(n) {
            for (db, dy) in db.iter_mut().zip(row) {
                *db += dy;
            }
        }
    }

    fn fold(&self, x: &Vec<f32>, signs: &Vec<f32>, p: usize, out: &mut Vec<f32>) {
        demand_rows("x", x, signs.len());
        resize(out, x.len() / signs.len().max(1) * p);
        fold::fold(x, signs, p, out);
    }

    fn rms_norm(&self, x: &Vec<f32>, weight: &Vec<f32>, eps: f32, out: &mut Vec<f32>) {
        demand_rows("x", x, weight.len());
        resize(out, x.len());
        norm::forward(x, weight, eps, out);
    }

    fn rms_norm_backward(
        &self,
        dy: &Vec<f32>,
        x: &Vec<f32>,
        weight: &Vec<f32>,
        eps: f32,
        dx: &mut Vec<f32>,
        write: Write,
        d_weight: Option<&mut Vec<f32>>,
    ) {
        demand_rows("x", x, weight.len());
        demand("dy", dy, 1, x.len());
        resize(dx, x.len());
        norm::backward(dy, x, weight, eps, dx, write);
        if let Some(d_weight) = d_weight {
            norm::weight_gradient(dy, x, eps, d_weight);
        }
    }

    fn rope(&self, x: &mut Vec<f32>, head_dim: usize, positions: &[u32], table: &RopeTable, rotation: Rotation) {
        rope::rotate(x, head_dim, positions, table, rotation);
    }

    fn attention(
        &self,
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
        segments: &[Segment],
        shape: AttentionShape,
        out: &mut Vec<f32>,
    ) {
        demand_attention(q, k, v, shape);
        resize(out, q.len());
        attention::forward(q, k, v, segments, shape, out);
    }

    fn attention_backward(
        &self,
        d_out: &Vec<f32>,
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
        out: &Vec<f32>,
        segments: &[Segment],
        shape: AttentionShape,
        dq: &mut Vec<f32>,
        dk: &mut Vec<f32>,
        dv: &mut Vec<f32>,
    ) {
        demand_attention(q, k, v, shape);
        demand("d_out", d_out, 1, q.len());
        demand("out", out, 1, q.len());
        resize(dq, q.len());
        resize(dk, k.len());
        resize(dv, v.len());
        attention::backward(d_out, q, k, v, out, segments, shape, dq, dk, dv);
    }

    fn kv_slot(&self, layers: usize, kv_heads: usize, head_dim: usize) -> KvSlot {
        KvSlot::new(layers, kv_heads, head_dim)
    }

    fn kv_append(&self, slot: &mut KvSlot, layer: usize, k: &Vec<f32>, v: &Vec<f32>, first: usize, count: usize) {
        slot.append(layer, k, v, first, count);
    }

    fn attention_cached(
        &self,
        q: &Vec<f32>,
        queries: &[CachedQuery<'_, KvSlot>],
        layer: usize,
        shape: AttentionShape,
        out: &mut Vec<f32>,
    ) {
        resize(out, q.len());
        attention::cached(q, queries, layer, shape, out);
    }

    fn swiglu(&self, gate: &Vec<f32>, up: &Vec<f32>, out: &mut Vec<f32>) {
        demand("up", up, 1, gate.len());
        resize(out, gate.len());
        swiglu::forward(gate, up, out);
    }

    fn swiglu_backward(&self, d_out: &Vec<f32>, gate: &mut Vec<f32>, up: &mut Vec<f32>) {
        demand("gate", gate, 1, d_out.len());
        demand("up", up, 1, d_out.len());
        swiglu::backward(d_out, gate, up);
    }

    fn gather(&self, x: &Vec<f32>, width: usize, rows: &[usize], out: &mut Vec<f32>) {
        out.clear();
        for row in rows {
            out.extend_from_slice(&x[row * width..(row + 1) * width]);
        }
    }

    fn scatter_add(&self, from: &Vec<f32>, width: usize, rows: &[usize], x: &mut Vec<f32>) {
        for (row, from) in rows.iter().zip(from.chunks_exact(width)) {
            for (x, from) in x[row * width..].iter_mut().zip(from) {
                *x += from;
            }
        }
    }

    fn log_prob(&self, hidden: &Vec<f32>, head: &Panels, targets: &[u32], temperature: f32) -> LogProbs {
        demand("hidden", hidden, targets.len(), head.k());
        log_prob::forward(hidden, head, targets, temperature)
    }

    fn log_prob_backward(
        &self,
        hidden: &Vec<f32>,
        head: &Panels,
        targets: &[u32],
        temperature: f32,
        forward: &LogProbs,
        weights: LogProbWeights<'_>,
        d_hidden: &mut Vec<f32>,
        d_head: Option<&mut Vec<f32>>,
    ) {
        demand("hidden", hidden, targets.len(), head.k());
        resize(d_hidden, hidden.len());
        log_prob::backward(
            hidden,
            head,
            targets,
            temperature,
            forward,
            weights,
            d_hidden,
            d_head.map(Vec::as_mut_slice),
        );
    }

    fn logits(&self, hidden: &Vec<f32>, rows: usize, head: &Panels, out: &mut Vec<f32>) {
        demand("hidden", hidden, rows, head.k());
        resize(out, product(rows, head.n()));
        matmul::linear(hidden, rows, head, out, Write::Replace);
    }
}

/// Demands `rows` rows of `width`.
#[track_caller]
fn demand(what: &str, buffer: &[f32], rows: usize, width: usize) {
    let len = buffer.len();
    assert!(rows.checked_mul(width) == Some(len), "`{what}` has {len} values, expected {rows} rows of {width}");
}

/// Demands whole rows of `width`.
#[track_caller]
fn demand_rows(what: &str, buffer: &[f32], width: usize) {
    assert!(buffer.len().is_multiple_of(width), "`{what}` has {} values, expected rows of {width}", buffer.len());
}

/// Demands heads that divide, and as many rows of each operand.
#[track_caller]
fn demand_attention(q: &[f32], k: &[f32], v: &[f32], shape: AttentionShape) {
    let AttentionShape { heads, kv_heads, head_dim, .. } = shape;
    assert!(heads.is_multiple_of(kv_heads), "{heads} query heads do not share {kv_heads} key heads");
    demand_rows("q", q, heads * head_dim);
    let rows = q.len().checked_div(heads * head_dim).unwrap_or(0);
    demand("k", k, rows, kv_heads * head_dim);
    demand("v", v, rows, kv_heads * head_dim);
}

/// Elements of a result.
fn product(rows: usize, width: usize) -> usize {
    rows.checked_mul(width).unwrap_or_else(|| panic!("too many rows: {rows} of {width}"))
}

/// Sets the length; values that stay are kept, as `Write::Add` needs.
fn resize(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}
