//! One block: attention and feed-forward, forward and backward.

use super::gradient::{Gradients, Slots};
use super::{Decoder, Projection, TokenBatch};
use crate::kernels::{Kernels, RopeTable, Rotation, Write};
use crate::lora::LoraWeights;

/// What a block's backward pass needs of its forward pass. Normalised inputs, activations and low-rank products are cheap and
/// computed again.
#[derive(Debug)]
pub(crate) struct Saved<K: Kernels> {
    /// Input of the block, `(R, C)`.
    pub(crate) input: K::Buffer,
    /// Queries and keys before their normalisation, where the model has one.
    pub(crate) raw: Option<(K::Buffer, K::Buffer)>,
    /// Rotated queries `(R, H D)`, rotated keys and values `(R, J D)`.
    pub(crate) q: K::Buffer,
    pub(crate) k: K::Buffer,
    pub(crate) v: K::Buffer,
    /// Attention's result before its output projection, `(R, H D)`.
    pub(crate) attention: K::Buffer,
    /// Input of the feed-forward half, `(R, C)`.
    pub(crate) middle: K::Buffer,
    /// `(R, F)` each.
    pub(crate) gate: K::Buffer,
    pub(crate) up: K::Buffer,
}

/// Buffers that live as long as a pass.
#[derive(Debug)]
pub(crate) struct Activations<K: Kernels> {
    pub(crate) normed: K::Buffer,
    pub(crate) q: K::Buffer,
    pub(crate) k: K::Buffer,
    pub(crate) v: K::Buffer,
    pub(crate) attention: K::Buffer,
    pub(crate) gate: K::Buffer,
    pub(crate) up: K::Buffer,
    pub(crate) act: K::Buffer,
    low_rank: K::Buffer,
    spare: K::Buffer,
}

impl<K: Kernels> Activations<K> {
    pub(crate) fn new(kernels: &K) -> Self {
        let empty = || kernels.zeros(0);
        Self {
            normed: empty(),
            q: empty(),
            k: empty(),
            v: empty(),
            attention: empty(),
            gate: empty(),
            up: empty(),
            act: empty(),
            low_rank: empty(),
            spare: empty(),
        }
    }
}

/// A layer with what it is adapted by.
#[derive(Debug)]
pub(crate) struct Adapted<'a, K: Kernels> {
    pub(crate) decoder: &'a Decoder<K>,
    pub(crate) lora: Option<&'a LoraWeights<K>>,
    pub(crate) layer: usize,
}

impl<'a, K: Kernels> Adapted<'a, K> {
    /// `y (+)= W x + b + s B A x`.
    #[allow(
        clippy::too_many_arguments,
        reason = "operands, scratch and result are buffers of one struct and cannot be borrowed together"
    )]
    fn project(
        &self,
        projection: Projection,
        x: &K::Buffer,
        rows: usize,
        low_rank: &mut K::Buffer,
        y: &mut K::Buffer,
        write: Write,
    ) {
        let kernels = self.decoder.kernels();
        let linear = &self.decoder.layers()[self.layer].linear[projection as usize];
        kernels.linear(x, rows, &linear.weight, linear.bias.as_ref(), y, write);
        if let Some(pair) = self.lora.and_then(|l| l.get(self.layer, projection)) {
            kernels.linear(x, rows, &pair.a, None, low_rank, Write::Replace);
            kernels.linear(low_rank, rows, &pair.b, None, y, Write::Add);
        }
    }

    /// Queries, keys and values of `x`, rotated; `raw` receives queries and keys before their normalisation.
    pub(crate) fn attention_inputs(
        &self,
        x: &K::Buffer,
        positions: &[u32],
        rope: &RopeTable,
        a: &mut Activations<K>,
        raw: Option<&mut (K::Buffer, K::Buffer)>,
    ) {
        let (kernels, config) = (self.decoder.kernels(), self.decoder.config());
        let weights = &self.decoder.layers()[self.layer];
        let rows = positions.len();
        kernels.rms_norm(x, &weights.input_norm, config.rms_norm_eps, &mut a.normed);
        self.project(Projection::Q, &a.normed, rows, &mut a.low_rank, &mut a.q, Write::Replace);
        self.project(Projection::K, &a.normed, rows, &mut a.low_rank, &mut a.k, Write::Replace);
        self.project(Projection::V, &a.normed, rows, &mut a.low_rank, &mut a.v, Write::Replace);
        if let (Some(q_norm), Some(k_norm)) = (&weights.q_norm, &weights.k_norm) {
            if let Some((q, k)) = raw {
                kernels.copy(&a.q, q);
                kernels.copy(&a.k, k);
            }
            kernels.rms_norm(&a.q, q_norm, config.rms_norm_eps, &mut a.spare);
            std::mem::swap(&mut a.q, &mut a.spare);
            kernels.rms_norm(&a.k, k_norm, config.rms_norm_eps, &mut a.spare);
            std::mem::swap(&mut a.k, &mut a.spare);
        }
        kernels.rope(&mut a.q, config.head_dim, positions, rope, Rotation::Forward);
        kernels.rope(&mut a.k, config.head_dim, positions, rope, Rotation::Forward);
    }

    /// From attention's result to the block's output: `x` is updated in place; `middle` receives the input of the feed-forward
    /// half.
    pub(crate) fn finish(
        &self,
        x: &mut K::Buffer,
        rows: usize,
        a: &mut Activations<K>,
        middle: Option<&mut K::Buffer>,
    ) {
        let (kernels, config) = (self.decoder.kernels(), self.decoder.config());
        let weights = &self.decoder.layers()[self.layer];
        self.project(Projection::O, &a.attention, rows, &mut a.low_rank, x, Write::Add);
        if let Some(middle) = middle {
            kernels.copy(x, middle);
        }
        kernels.rms_norm(x, &weights.post_norm, config.rms_norm_eps, &mut a.normed);
        self.project(Projection::Gate, &a.normed, rows, &mut a.low_rank, &mut a.gate, Write::Replace);
        self.project(Projection::Up, &a.normed, rows, &mut a.low_rank, &mut a.up, Write::Replace);
        kernels.swiglu(&a.gate, &a.up, &mut a.act);
        self.project(Projection::Down, &a.act, rows, &mut a.low_rank, x, Write::Add);
    }

    /// The whole block over a batch, in place.
    pub(crate) fn forward(&self, x: &mut K::Buffer, batch: &TokenBatch, rope: &RopeTable, a: &mut Activations<K>) {
        self.attention_inputs(x, &batch.positions, rope, a, None);
        let shape = self.decoder.attention_shape(self.layer);
        self.decoder.kernels().attention(&a.q, &a.k, &a.v, &batch.segments, shape, &mut a.attention);
        self.finish(x, batch.rows(), a, None);
    }

    /// As [`Adapted::forward`], keeping what the backward pass needs.
    pub(crate) fn forward_saving(
        &self,
        x: &mut K::Buffer,
        batch: &TokenBatch,
        rope: &RopeTable,
        a: &mut Activations<K>,
    ) -> Saved<K> {
        let kernels = self.decoder.kernels();
        let empty = || kernels.zeros(0);
        let (mut input, mut middle) = (empty(), empty());
        kernels.copy(x, &mut input);
        let mut raw = self.decoder.config().qk_norm.then(|| (empty(), empty()));
        self.attention_inputs(x, &batch.positions, rope, a, raw.as_mut());
        let shape = self.decoder.attention_shape(self.layer);
        kernels.attention(&a.q, &a.k, &a.v, &batch.segments, shape, &mut a.attention);
        self.finish(x, batch.rows(), a, Some(&mut middle));
        let take = |buffer: &mut K::Buffer| std::mem::replace(buffer, empty());
        Saved {
            input,
            raw,
            q: take(&mut a.q),
            k: take(&mut a.k),
            v: take(&mut a.v),
            attention: take(&mut a.attention),
            middle,
            gate: take(&mut a.gate),
            up: take(&mut a.up),
        }
    }

    /// Backward of [`Adapted::project`]: `dx (+)=` where it is wanted, and the gradients of what is trained.
    #[allow(clippy::too_many_arguments, reason = "as for `project`")]
    fn project_backward(
        &self,
        projection: Projection,
        dy: &K::Buffer,
        x: &K::Buffer,
        rows: usize,
        dx: Option<(&mut K::Buffer, Write)>,
        low_rank: &mut [K::Buffer; 2],
        gradients: &mut Gradients<K>,
    ) {
        let kernels = self.decoder.kernels();
        let linear = &self.decoder.layers()[self.layer].linear[projection as usize];
        let (n, k) = projection.shape(self.decoder.config());
        let mut dx = dx;
        if let Some((dx, write)) = &mut dx {
            kernels.linear_backward(dy, rows, &linear.weight, dx, *write);
        }
        if let Some(pair) = self.lora.and_then(|l| l.get(self.layer, projection)) {
            let [h, dh] = low_rank;
            kernels.linear_backward(dy, rows, &pair.b, dh, Write::Replace);
            if let Some((dx, _)) = dx {
                kernels.linear_backward(dh, rows, &pair.a, dx, Write::Add);
            }
            let slot = match &gradients.slots {
                Slots::Lora(slots) => slots[self.layer][projection as usize],
                Slots::All(_) => None,
            };
            if let Some(slot) = slot {
                kernels.weight_gradient(dh, pair.rank, x, k, rows, &mut gradients.buffers[slot]);
                kernels.linear(x, rows, &pair.a, None, h, Write::Replace);
                if let Some(activity) = &mut gradients.activity {
                    activity.observe(kernels, (self.layer, projection), dy, x, h, rows);
                }
                kernels.scale(h, pair.scale);
                kernels.weight_gradient(h, pair.rank, dy, n, rows, &mut gradients.buffers[slot + 1]);
            }
        }
        if let Some(slots) = gradients.all_slots() {
            let (weight, bias) = (
                slots.layers[self.layer].weight[projection as usize],
                slots.layers[self.layer].bias[projection as usize],
            );
            kernels.weight_gradient(dy, n, x, k, rows, &mut gradients.buffers[weight]);
            if let Some(bias) = bias {
                kernels.bias_gradient(dy, n, &mut gradients.buffers[bias]);
            }
        }
    }

    /// Backward of the block: `dx`, the gradient of its output, becomes that of its input (unless `last`, when nothing below
    /// needs it).
    pub(crate) fn backward(
        &self,
        saved: Saved<K>,
        batch: &TokenBatch,
        rope: &RopeTable,
        dx: &mut K::Buffer,
        gradients: &mut Gradients<K>,
        last: bool,
    ) {
        let (kernels, config) = (self.decoder.kernels(), self.decoder.config());
        let weights = &self.decoder.layers()[self.layer];
        let (rows, eps) = (batch.rows(), config.rms_norm_eps);
        let slots = gradients.all_slots().map(|s| s.layers[self.layer].clone());
        let empty = || kernels.zeros(0);
        let mut low_rank = [empty(), empty()];
        let Saved { input, raw, mut q, k, v, attention, middle, mut gate, mut up } = saved;

        // Feed-forward half.
        let (mut act, mut d_act) = (empty(), empty());
        kernels.swiglu(&gate, &up, &mut act);
        self.project_backward(
            Projection::Down,
            dx,
            &act,
            rows,
            Some((&mut d_act, Write::Replace)),
            &mut low_rank,
            gradients,
        );
        drop(act);
        kernels.swiglu_backward(&d_act, &mut gate, &mut up);
        let (d_gate, d_up) = (gate, up);
        let (mut normed, mut d_normed) = (empty(), empty());
        kernels.rms_norm(&middle, &weights.post_norm, eps, &mut normed);
        self.project_backward(
            Projection::Gate,
            &d_gate,
            &normed,
            rows,
            Some((&mut d_normed, Write::Replace)),
            &mut low_rank,
            gradients,
        );
        self.project_backward(
            Projection::Up,
            &d_up,
            &normed,
            rows,
            Some((&mut d_normed, Write::Add)),
            &mut low_rank,
            gradients,
        );
        let d_weight = slots.as_ref().map(|s| &mut gradients.buffers[s.post_norm]);
        kernels.rms_norm_backward(&d_normed, &middle, &weights.post_norm, eps, dx, Write::Add, d_weight);

        // Attention half.
        let mut d_attention = empty();
        self.project_backward(
            Projection::O,
            dx,
            &attention,
            rows,
            Some((&mut d_attention, Write::Replace)),
            &mut low_rank,
            gradients,
        );
        let (mut dq, mut dk, mut dv) = (empty(), empty(), empty());
        let shape = self.decoder.attention_shape(self.layer);
        kernels.attention_backward(
            &d_attention,
            &q,
            &k,
            &v,
            &attention,
            &batch.segments,
            shape,
            &mut dq,
            &mut dk,
            &mut dv,
        );
        kernels.rope(&mut dq, config.head_dim, &batch.positions, rope, Rotation::Backward);
        kernels.rope(&mut dk, config.head_dim, &batch.positions, rope, Rotation::Backward);
        if let (Some((raw_q, raw_k)), Some(q_norm), Some(k_norm)) = (&raw, &weights.q_norm, &weights.k_norm) {
            let d_weight = slots.as_ref().and_then(|s| s.q_norm).map(|i| &mut gradients.buffers[i]);
            kernels.rms_norm_backward(&dq, raw_q, q_norm, eps, &mut q, Write::Replace, d_weight);
            std::mem::swap(&mut dq, &mut q);
            let d_weight = slots.as_ref().and_then(|s| s.k_norm).map(|i| &mut gradients.buffers[i]);
            let mut spare = k;
            kernels.rms_norm_backward(&dk, raw_k, k_norm, eps, &mut spare, Write::Replace, d_weight);
            dk = spare;
        }
        kernels.rms_norm(&input, &weights.input_norm, eps, &mut normed);
        let mut write = Write::Replace;
        for (projection, dy) in [(Projection::Q, &dq), (Projection::K, &dk), (Projection::V, &dv)] {
            let target = (!last).then_some((&mut d_normed, write));
            self.project_backward(projection, dy, &normed, rows, target, &mut low_rank, gradients);
            write = Write::Add;
        }
        if !last {
            let d_weight = slots.as_ref().map(|s| &mut gradients.buffers[s.input_norm]);
            kernels.rms_norm_backward(&d_normed, &input, &weights.input_norm, eps, dx, Write::Add, d_weight);
        }
    }
}
