//! Keys and values of one head in the layouts that attention reads.

use super::simd::{LANES, Lanes};

/// Keys as panels of 16 positions (`head_dim` steps each), values as panels of 16 dimensions (one step a position).
///
/// Keys are laid out so that scores come out 16 positions at a time, values so that outputs come out 16 dimensions at a time;
/// both products then run through the same kernel as every other.
#[derive(Debug, Clone)]
pub(crate) struct KvHead {
    head_dim: usize,
    len: usize,
    capacity: usize,
    keys: Vec<Lanes>,
    values: Vec<Lanes>,
}

impl KvHead {
    pub(crate) fn new(head_dim: usize) -> Self {
        Self { head_dim, len: 0, capacity: 0, keys: Vec::new(), values: Vec::new() }
    }

    /// Makes room for `capacity` positions without losing any.
    pub(crate) fn reserve(&mut self, capacity: usize) {
        let capacity = capacity.next_multiple_of(LANES);
        if capacity <= self.capacity {
            return;
        }
        self.keys.resize(capacity / LANES * self.head_dim, Lanes::ZERO);
        let panels = self.head_dim.div_ceil(LANES);
        let mut values = vec![Lanes::ZERO; panels * capacity];
        if self.capacity > 0 {
            for (new, old) in values.chunks_exact_mut(capacity).zip(self.values.chunks_exact(self.capacity)) {
                new[..self.len].copy_from_slice(&old[..self.len]);
            }
        }
        self.values = values;
        self.capacity = capacity;
    }

    /// Appends a position.
    pub(crate) fn push(&mut self, key: &[f32], value: &[f32]) {
        if self.len == self.capacity {
            self.reserve((2 * self.capacity).max(32));
        }
        let panel = &mut self.keys[self.len / LANES * self.head_dim..][..self.head_dim];
        for (step, key) in panel.iter_mut().zip(key) {
            step.0[self.len % LANES] = *key;
        }
        for (p, chunk) in value.chunks(LANES).enumerate() {
            self.values[p * self.capacity + self.len].0[..chunk.len()].copy_from_slice(chunk);
        }
        self.len += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn keys(&self) -> &[Lanes] {
        &self.keys
    }

    pub(crate) fn values(&self) -> &[Lanes] {
        &self.values
    }
}

/// Keys and values of one sequence: packed for attention, for each layer and key/value head.
#[derive(Debug, Clone)]
pub struct KvSlot {
    pub(crate) kv_heads: usize,
    pub(crate) heads: Vec<KvHead>,
}

impl KvSlot {
    pub(crate) fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self { kv_heads, heads: vec![KvHead::new(head_dim); layers * kv_heads] }
    }

    /// Appends rows `first .. first + count` of `k, v (R, kv_heads * head_dim)` to a layer.
    pub(crate) fn append(&mut self, layer: usize, k: &[f32], v: &[f32], first: usize, count: usize) {
        let heads = &mut self.heads[layer * self.kv_heads..(layer + 1) * self.kv_heads];
        let d = heads[0].head_dim;
        for (h, head) in heads.iter_mut().enumerate() {
            if count > 1 {
                head.reserve(head.len + count);
            }
            for row in first..first + count {
                let at = (row * self.kv_heads + h) * d;
                head.push(&k[at..at + d], &v[at..at + d]);
            }
        }
    }

    pub(crate) fn head(&self, layer: usize, kv_head: usize) -> &KvHead {
        &self.heads[layer * self.kv_heads + kv_head]
    }
}
