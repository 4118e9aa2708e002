//! The arithmetic that a decoder is made of, behind one trait with opaque buffers.
//!
//! Model code is written once over [`Kernels`]; [`cpu::Cpu`] is the implementation for processors. A GPU implementation keeps
//! its own buffers and matrices and is added beside it without touching the model.
//!
//! Letters: `R` rows (tokens), `C` width of the residual stream, `H` query heads, `J` key/value heads, `D` width of a head,
//! `V` vocabulary. Every activation is row-major `(R, width)`.

pub mod cpu;

use std::fmt::Debug;

/// What happens to the values already in an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// They are replaced.
    Replace,
    /// The result is added to them.
    Add,
}

/// Which way positions turn queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// The forward pass.
    Forward,
    /// Its transpose, for gradients.
    Backward,
}

/// A run of rows that form one sequence, or the continuation of one.
///
/// A prompt shared by a group is one segment without `prefix`; each completion is a segment that names it as its prefix and
/// attends to all of it. So a prompt is computed once however many completions it has, forward and backward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First row.
    pub start: usize,
    /// Rows, at least one.
    pub len: usize,
    /// Index of an earlier segment, itself without prefix, that precedes this one.
    pub prefix: Option<usize>,
}

/// The shape of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads (H).
    pub heads: usize,
    /// Key and value heads (J), a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head (D).
    pub head_dim: usize,
    /// How many positions back a query sees, itself included; `None` sees all.
    pub window: Option<usize>,
}

/// One decoding query: row `row` of the query buffer, continuing `own` (which already holds its own key and value) after
/// `prefix`.
#[derive(Debug)]
pub struct CachedQuery<'a, S> {
    /// Row of the query and output buffers.
    pub row: usize,
    /// The shared prompt, where there is one.
    pub prefix: Option<&'a S>,
    /// The sequence's own keys and values.
    pub own: &'a S,
}

/// What a scored token's loss depends on, `(R)` each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogProbs {
    /// Log-probability of the target.
    pub log_prob: Vec<f32>,
    /// Entropy of the distribution (nats).
    pub entropy: Vec<f32>,
    /// Log of the sum of exponentials of the scaled logits.
    pub log_sum_exp: Vec<f32>,
}

/// Gradients of [`LogProbs`] to be propagated, `(R)` each.
#[derive(Debug, Clone, Copy)]
pub struct LogProbWeights<'a> {
    /// `dL / dlog_prob`.
    pub log_prob: &'a [f32],
    /// `dL / dentropy`; empty means zero.
    pub entropy: &'a [f32],
}

/// A set of kernels and the memory they work on.
///
/// # Contract
/// - A row's result depends on that row alone (and, in attention, on the rows it attends to): never on how many rows are
///   computed together, nor on threads. The trainer relies on it to compare sampled with rescored log-probabilities.
/// - Sums over rows (gradients) run in row order.
/// - Operands have the sizes that each method states; outputs are resized, but for those that are added to (`dw`, `db`,
///   `d_weight`, `d_head`, `d_table`), which must have theirs.
///
/// # Panics
/// Every method, if sizes contradict each other, with a message that names them. No size may lead outside a buffer.
pub trait Kernels: Debug + Send + Sync + 'static {
    /// Activations: `f32`, any length.
    type Buffer: Debug + Send + Sync;
    /// A weight matrix `(n, k)` in whatever layout the kernels like.
    type Matrix: Debug + Send + Sync;
    /// Keys and values of one sequence in all layers.
    type KvSlot: Debug + Send + Sync;

    /// A buffer of `len` zeros.
    fn zeros(&self, len: usize) -> Self::Buffer;
    /// A buffer of these values.
    fn upload(&self, values: &[f32]) -> Self::Buffer;
    /// The values of a buffer.
    fn download(&self, buffer: &Self::Buffer) -> Vec<f32>;
    /// How many values a buffer has.
    fn len(&self, buffer: &Self::Buffer) -> usize;
    /// Copies the values of a buffer to `to`, which is as long.
    fn read(&self, buffer: &Self::Buffer, to: &mut [f32]);
    /// Makes `to` a copy of `from`.
    fn copy(&self, from: &Self::Buffer, to: &mut Self::Buffer);
    /// Sets the length and every value to zero.
    fn clear(&self, buffer: &mut Self::Buffer, len: usize);
    /// `to += from`.
    fn add(&self, from: &Self::Buffer, to: &mut Self::Buffer);
    /// `buffer *= factor`.
    fn scale(&self, buffer: &mut Self::Buffer, factor: f32);

    /// A matrix from row-major `(n, k)` values.
    fn matrix(&self, rows: &[f32], n: usize, k: usize) -> Self::Matrix;
    /// Row-major `(n, k)` values of a matrix.
    fn matrix_rows(&self, matrix: &Self::Matrix) -> Vec<f32>;

    /// `out (R, C)` = rows `ids` of `table (V, C)`.
    fn embed(&self, table: &Self::Matrix, ids: &[u32], out: &mut Self::Buffer);
    /// `d_table (V, C)` += rows of `d_out (R, C)` at `ids`, in row order.
    fn embed_backward(&self, d_out: &Self::Buffer, ids: &[u32], width: usize, d_table: &mut Self::Buffer);

    /// `y (R, n) (+)= x (R, k) w^T (+ bias)`.
    fn linear(
        &self,
        x: &Self::Buffer,
        rows: usize,
        w: &Self::Matrix,
        bias: Option<&Self::Buffer>,
        y: &mut Self::Buffer,
        write: Write,
    );
    /// `dx (R, k) (+)= dy (R, n) w`.
    fn linear_backward(&self, dy: &Self::Buffer, rows: usize, w: &Self::Matrix, dx: &mut Self::Buffer, write: Write);
    /// `dw (n, k) += dy (R, n)^T x (R, k)`.
    fn weight_gradient(
        &self,
        dy: &Self::Buffer,
        n: usize,
        x: &Self::Buffer,
        k: usize,
        rows: usize,
        dw: &mut Self::Buffer,
    );
    /// `db (n) += sum over rows of dy (R, n)`.
    fn bias_gradient(&self, dy: &Self::Buffer, n: usize, db: &mut Self::Buffer);

    /// `out (R, p)`: each row of `x (R, w)` times `signs (w)`, cut into pieces of `p` and the pieces summed: entry `j` is the
    /// sum of `signs[i] x[i]` over `i = j (mod p)`. A CountSketch whose buckets are taken by turns.
    fn fold(&self, x: &Self::Buffer, signs: &Self::Buffer, p: usize, out: &mut Self::Buffer);

    /// `out = x / sqrt(mean(x^2) + eps) * weight`, over rows of `weight`'s length.
    fn rms_norm(&self, x: &Self::Buffer, weight: &Self::Buffer, eps: f32, out: &mut Self::Buffer);
    /// Backward of [`Kernels::rms_norm`]: `dx (+)=`, and `d_weight +=` where given.
    #[allow(clippy::too_many_arguments, reason = "the forward pass's operands, their gradient and two results")]
    fn rms_norm_backward(
        &self,
        dy: &Self::Buffer,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        eps: f32,
        dx: &mut Self::Buffer,
        write: Write,
        d_weight: Option<&mut Self::Buffer>,
    );

    /// Rotates `x (R, heads * D)` in place by `positions (R)`: pairs `(i, i + D/2)` turn by `positions * frequencies[i]`.
    fn rope(&self, x: &mut Self::Buffer, head_dim: usize, positions: &[u32], table: &RopeTable, rotation: Rotation);

    /// Causal attention within segments and over their prefixes: `q, out (R, H D)`, `k, v (R, J D)`.
    fn attention(
        &self,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        segments: &[Segment],
        shape: AttentionShape,
        out: &mut Self::Buffer,
    );
    /// Backward of [`Kernels::attention`]; `dq`, `dk`, `dv` are replaced. `out` is the forward result.
    #[allow(clippy::too_many_arguments, reason = "three operands, the result and their four gradients")]
    fn attention_backward(
        &self,
        d_out: &Self::Buffer,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        out: &Self::Buffer,
        segments: &[Segment],
        shape: AttentionShape,
        dq: &mut Self::Buffer,
        dk: &mut Self::Buffer,
        dv: &mut Self::Buffer,
    );

    /// An empty slot.
    fn kv_slot(&self, layers: usize, kv_heads: usize, head_dim: usize) -> Self::KvSlot;
    /// Appends rows `first .. first + count` of `k, v (R, J D)` to a layer of a slot.
    fn kv_append(
        &self,
        slot: &mut Self::KvSlot,
        layer: usize,
        k: &Self::Buffer,
        v: &Self::Buffer,
        first: usize,
        count: usize,
    );
    /// Attention of single tokens over cached keys and values: `q, out (R, H D)`.
    fn attention_cached(
        &self,
        q: &Self::Buffer,
        queries: &[CachedQuery<'_, Self::KvSlot>],
        layer: usize,
        shape: AttentionShape,
        out: &mut Self::Buffer,
    );

    /// `out = silu(gate) * up`.
    fn swiglu(&self, gate: &Self::Buffer, up: &Self::Buffer, out: &mut Self::Buffer);
    /// Backward of [`Kernels::swiglu`]: `gate` and `up` are replaced by their gradients.
    fn swiglu_backward(&self, d_out: &Self::Buffer, gate: &mut Self::Buffer, up: &mut Self::Buffer);

    /// `out` = rows `rows` of `x (R, width)`.
    fn gather(&self, x: &Self::Buffer, width: usize, rows: &[usize], out: &mut Self::Buffer);
    /// Rows `rows` of `x (R, width)` += rows of `from`, in order.
    fn scatter_add(&self, from: &Self::Buffer, width: usize, rows: &[usize], x: &mut Self::Buffer);

    /// Log-probability and entropy of `targets (R)` under `softmax(hidden head^T / temperature)`. No array of `(R, V)` is
    /// formed: the vocabulary passes by in chunks.
    fn log_prob(&self, hidden: &Self::Buffer, head: &Self::Matrix, targets: &[u32], temperature: f32) -> LogProbs;
    /// Backward of [`Kernels::log_prob`]: `d_hidden` is replaced, `d_head += ` where given.
    #[allow(
        clippy::too_many_arguments,
        reason = "the forward pass's operands, its results, their weights and two gradients"
    )]
    fn log_prob_backward(
        &self,
        hidden: &Self::Buffer,
        head: &Self::Matrix,
        targets: &[u32],
        temperature: f32,
        forward: &LogProbs,
        weights: LogProbWeights<'_>,
        d_hidden: &mut Self::Buffer,
        d_head: Option<&mut Self::Buffer>,
    );
    /// `hidden head^T`, `(R, V)`, on the host: for sampling, where rows are few.
    fn logits(&self, hidden: &Self::Buffer, rows: usize, head: &Self::Matrix, out: &mut Vec<f32>);
}

/// Cosines and sines of the rotary angles, `(positions, D / 2)`.
#[derive(Debug, Clone)]
pub struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Angles `position * frequency` for `positions` positions; computed in `f32` as transformers does (the product of an
    /// `f32` frequency and an `f32` position), the trigonometry in `f64`.
    pub fn new(frequencies: &[f64], positions: usize) -> Self {
        let mut table = Self { half: frequencies.len(), cos: Vec::new(), sin: Vec::new() };
        for position in 0..positions {
            for frequency in frequencies {
                let angle = f64::from(position as f32 * *frequency as f32);
                table.cos.push(angle.cos() as f32);
                table.sin.push(angle.sin() as f32);
            }
        }
        table
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Cosines and sines at a position, `(D / 2)` each.
    ///
    /// # Panics
    /// If the position is beyond the table.
    pub fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let range = position as usize * self.half..(position as usize + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
