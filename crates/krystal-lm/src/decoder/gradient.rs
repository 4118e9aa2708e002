//! Where gradients go.

use std::collections::BTreeMap;

use dynlora_core::StackActivity;

use crate::config::ModelConfig;
use crate::kernels::Kernels;
use crate::lora::LoraWeights;

use super::{Activity, ActivityPlan, Projection};

/// Indices of a layer's tensors in [`Gradients`].
#[derive(Debug, Clone)]
pub(crate) struct LayerSlots {
    pub(crate) input_norm: usize,
    pub(crate) post_norm: usize,
    pub(crate) q_norm: Option<usize>,
    pub(crate) k_norm: Option<usize>,
    pub(crate) weight: [usize; 7],
    pub(crate) bias: [Option<usize>; 7],
}

/// Indices of all weights in [`Gradients`].
#[derive(Debug, Clone)]
pub(crate) struct AllSlots {
    pub(crate) embedding: usize,
    pub(crate) layers: Vec<LayerSlots>,
    pub(crate) norm: usize,
    /// The embedding's where they are tied.
    pub(crate) head: usize,
}

/// Which tensor's gradient lies where.
#[derive(Debug, Clone)]
pub(crate) enum Slots {
    /// For each layer and projection, the index of `A`'s gradient `(r, k)`; that of `B^T`, `(r, n)`, follows it.
    Lora(Vec<[Option<usize>; 7]>),
    All(AllSlots),
}

/// Gradients of everything that is trained, accumulated.
#[derive(Debug)]
pub struct Gradients<K: Kernels> {
    pub(crate) slots: Slots,
    pub(crate) names: Vec<String>,
    /// Tensors accumulated as `(r, n)`, which suits the kernels, and their rank: the `B` factors.
    transposed: BTreeMap<usize, usize>,
    pub(crate) buffers: Vec<K::Buffer>,
    pub(crate) activity: Option<Activity<K>>,
}

impl<K: Kernels> Gradients<K> {
    /// Zero gradients of an adapter's factors, in the adapter's order: `A (r, k)`, then `B (n, r)`, of each module.
    pub fn lora(kernels: &K, config: &ModelConfig, lora: &LoraWeights<K>) -> Self {
        let mut gradients = Self::empty();
        let mut slots = vec![[None; 7]; config.num_hidden_layers];
        for (layer, slots) in slots.iter_mut().enumerate() {
            for projection in Projection::ALL {
                let Some(pair) = lora.get(layer, projection) else { continue };
                let (n, k) = projection.shape(config);
                slots[projection as usize] = Some(gradients.buffers.len());
                let module = projection.module(layer);
                gradients.push(kernels, format!("{module}.lora_A"), pair.rank * k);
                let b = gradients.push(kernels, format!("{module}.lora_B"), pair.rank * n);
                gradients.transposed.insert(b, pair.rank);
            }
        }
        gradients.slots = Slots::Lora(slots);
        gradients
    }

    /// Measures what `plan` says along with the gradients of an adapter.
    #[must_use]
    pub fn with_activity(
        mut self,
        kernels: &K,
        config: &ModelConfig,
        lora: &LoraWeights<K>,
        plan: ActivityPlan,
    ) -> Self {
        self.activity = Some(Activity::new(kernels, config, lora, plan));
        self
    }

    /// What was measured, modules in the order of the adapter, and the sketch of `dL/dW`
    /// (`slots * side^2` numbers); `None` without [`Gradients::with_activity`].
    pub fn activity(&self, kernels: &K) -> Option<(StackActivity, Vec<f32>)> {
        self.activity.as_ref().map(|activity| activity.values(kernels))
    }

    /// Gradient of tensor `i` as the kernels accumulate it: `A` as `(r, k)`, `B` transposed, `(r, n)`.
    pub fn channels(&self, kernels: &K, i: usize) -> Vec<f32> {
        kernels.download(&self.buffers[i])
    }

    /// Zero gradients of every weight, in the order of [`Decoder::from_tensors`](super::Decoder::from_tensors)'s requests.
    pub fn all(kernels: &K, config: &ModelConfig) -> Self {
        let mut g = Self::empty();
        let hidden = config.hidden_size;
        let embedding = g.push(kernels, "model.embed_tokens.weight".to_owned(), config.vocab_size * hidden);
        let layers = (0..config.num_hidden_layers)
            .map(|layer| {
                let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
                let input_norm = g.push(kernels, name("input_layernorm"), hidden);
                let post_norm = g.push(kernels, name("post_attention_layernorm"), hidden);
                let q_norm = config.qk_norm.then(|| g.push(kernels, name("self_attn.q_norm"), config.head_dim));
                let k_norm = config.qk_norm.then(|| g.push(kernels, name("self_attn.k_norm"), config.head_dim));
                let (mut weight, mut bias) = ([0; 7], [None; 7]);
                for projection in Projection::ALL {
                    let (n, k) = projection.shape(config);
                    let module = projection.module(layer);
                    weight[projection as usize] = g.push(kernels, format!("{module}.weight"), n * k);
                    if projection.has_bias(config) {
                        bias[projection as usize] = Some(g.push(kernels, format!("{module}.bias"), n));
                    }
                }
                LayerSlots { input_norm, post_norm, q_norm, k_norm, weight, bias }
            })
            .collect();
        let norm = g.push(kernels, "model.norm.weight".to_owned(), hidden);
        let head = match config.tie_word_embeddings {
            true => embedding,
            false => g.push(kernels, "lm_head.weight".to_owned(), config.vocab_size * hidden),
        };
        g.slots = Slots::All(AllSlots { embedding, layers, norm, head });
        g
    }

    fn empty() -> Self {
        Self {
            slots: Slots::Lora(Vec::new()),
            names: Vec::new(),
            buffers: Vec::new(),
            transposed: BTreeMap::new(),
            activity: None,
        }
    }

    fn push(&mut self, kernels: &K, name: String, len: usize) -> usize {
        self.names.push(name);
        self.buffers.push(kernels.zeros(len));
        self.buffers.len() - 1
    }

    /// Names of the tensors, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Gradient of tensor `i`, row-major in the tensor's own shape.
    pub fn values(&self, kernels: &K, i: usize) -> Vec<f32> {
        let values = kernels.download(&self.buffers[i]);
        let Some(rank) = self.transposed.get(&i) else { return values };
        let n = values.len() / rank;
        (0..n).flat_map(|row| (0..*rank).map(move |column| column * n + row)).map(|at| values[at]).collect()
    }

    /// Every sum over rows, tensors first.
    fn sums(&self) -> impl Iterator<Item = &K::Buffer> {
        self.buffers.iter().chain(self.activity.iter().flat_map(Activity::sums))
    }

    fn sums_mut(&mut self) -> impl Iterator<Item = &mut K::Buffer> {
        self.buffers.iter_mut().chain(self.activity.iter_mut().flat_map(Activity::sums_mut))
    }

    /// Numbers that [`Gradients::write_flat`] writes.
    pub fn flat_len(&self, kernels: &K) -> usize {
        let n_rows = usize::from(self.activity.is_some());
        self.sums().map(|sum| kernels.len(sum)).sum::<usize>() + n_rows
    }

    /// Writes everything one after another: tensors in order as [`Gradients::channels`] has them, then what was measured and the
    /// number of rows it was measured on. All are sums over rows, so the gradients of several micro-batches may be added as such
    /// lists, and the sum be read again. The number of rows is exact up to 2^24.
    ///
    /// # Panics
    /// If `out` is not [`Gradients::flat_len`] long.
    pub fn write_flat(&self, kernels: &K, out: &mut [f32]) {
        assert_eq!(out.len(), self.flat_len(kernels), "as many places as there are numbers");
        let mut rest = out;
        for sum in self.sums() {
            let (to, tail) = rest.split_at_mut(kernels.len(sum));
            kernels.read(sum, to);
            rest = tail;
        }
        if let (Some(activity), [n_rows]) = (&self.activity, rest) {
            *n_rows = activity.n_rows as f32;
        }
    }

    /// Replaces everything by what [`Gradients::write_flat`] wrote of the same tensors and measurements, or by a sum of such.
    ///
    /// # Panics
    /// If there are not [`Gradients::flat_len`] numbers.
    pub fn read_flat(&mut self, kernels: &K, flat: &[f32]) {
        assert_eq!(flat.len(), self.flat_len(kernels), "as many numbers as there are places");
        let mut rest = flat;
        for sum in self.sums_mut() {
            let (from, tail) = rest.split_at(kernels.len(sum));
            *sum = kernels.upload(from);
            rest = tail;
        }
        if let (Some(activity), [n_rows]) = (&mut self.activity, rest) {
            activity.n_rows = *n_rows as u64;
        }
    }

    /// The tensor that number `at` of [`Gradients::write_flat`]'s list belongs to; `None` for what was measured.
    pub fn tensor_at(&self, kernels: &K, mut at: usize) -> Option<&str> {
        let place = self.buffers.iter().position(|buffer| {
            let is_here = at < kernels.len(buffer);
            at = at.saturating_sub(kernels.len(buffer));
            is_here
        })?;
        Some(&self.names[place])
    }

    /// Sets everything to zero.
    pub fn clear(&mut self, kernels: &K) {
        for sum in self.sums_mut() {
            let len = kernels.len(sum);
            kernels.clear(sum, len);
        }
        if let Some(activity) = &mut self.activity {
            activity.n_rows = 0;
        }
    }

    /// Zeros for the same tensors.
    pub fn zeros_like(&self, kernels: &K) -> Self {
        Self {
            slots: self.slots.clone(),
            names: self.names.clone(),
            transposed: self.transposed.clone(),
            buffers: self.buffers.iter().map(|buffer| kernels.zeros(kernels.len(buffer))).collect(),
            activity: self.activity.as_ref().map(|activity| activity.zeros_like(kernels)),
        }
    }

    /// Adds another set of gradients of the same tensors.
    pub fn add(&mut self, kernels: &K, other: &Self) {
        for (to, from) in self.sums_mut().zip(other.sums()) {
            kernels.add(from, to);
        }
        if let (Some(to), Some(from)) = (&mut self.activity, &other.activity) {
            to.n_rows += from.n_rows;
        }
    }

    pub(crate) fn all_slots(&self) -> Option<&AllSlots> {
        match &self.slots {
            Slots::All(slots) => Some(slots),
            Slots::Lora(_) => None,
        }
    }
}
