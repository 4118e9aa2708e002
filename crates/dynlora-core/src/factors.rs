//! The factors of one module in one layer, channel by channel.
//!
//! Letters: `r` rank (channels), `d_in` and `d_out` the widths of the module.

use std::sync::Arc;

use krystal_math::rng::{Purpose, stream_rng};
use rand::Rng;

use crate::{Level, ModuleShape};

/// `dW = sum_j b_j a_j^T`: row `j` of `a` and row `j` of `b` are channel `j`. The scale is 1, so that a channel can be moved
/// between layers, and layers concatenated, by copying.
///
/// `b` is PEFT's `lora_B` transposed: a channel is contiguous, and layers stack by concatenation.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleFactors {
    /// Columns of the weight.
    pub d_in: usize,
    /// Rows of the weight.
    pub d_out: usize,
    /// Channels.
    pub rank: usize,
    /// `(r, d_in)`, row-major.
    pub a: Vec<f32>,
    /// `(r, d_out)`, row-major.
    pub b: Vec<f32>,
}

impl ModuleFactors {
    /// `A` from the seed and `B = 0`: adds nothing to the base model, not even a rounding.
    pub fn fresh(shape: &ModuleShape, rank: usize, address: FactorAddress) -> Self {
        let mut a = Vec::with_capacity(rank * shape.d_in);
        for channel in 0..rank {
            a.extend(initial_row(shape.d_in, address, channel, 0));
        }
        Self { d_in: shape.d_in, d_out: shape.d_out, rank, a, b: vec![0.0; rank * shape.d_out] }
    }

    /// Row `channel` of `A`, `(d_in)`.
    pub fn a_row(&self, channel: usize) -> &[f32] {
        &self.a[channel * self.d_in..][..self.d_in]
    }

    /// Row `channel` of `B^T`, `(d_out)`.
    pub fn b_row(&self, channel: usize) -> &[f32] {
        &self.b[channel * self.d_out..][..self.d_out]
    }

    /// Row `channel` of `A`, `(d_in)`.
    pub fn a_row_mut(&mut self, channel: usize) -> &mut [f32] {
        &mut self.a[channel * self.d_in..][..self.d_in]
    }

    /// Row `channel` of `B^T`, `(d_out)`.
    pub fn b_row_mut(&mut self, channel: usize) -> &mut [f32] {
        &mut self.b[channel * self.d_out..][..self.d_out]
    }

    /// Whether a channel adds nothing: every entry of its row of `B^T` is zero.
    pub fn is_free(&self, channel: usize) -> bool {
        self.b_row(channel).iter().all(|b| *b == 0.0)
    }

    /// Numbers in both factors.
    pub fn num_parameters(&self) -> usize {
        self.a.len() + self.b.len()
    }
}

/// The factors of a layer, one for each module of the hierarchy in its order. Shared with snapshots: a writer copies what a
/// snapshot still holds.
pub type LayerFactors = Vec<Arc<ModuleFactors>>;

/// Where in the random streams a module's initial `A` lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactorAddress {
    /// Seed of the hierarchy.
    pub seed: u64,
    /// The layer.
    pub level: Level,
    /// Which agent's layer it is; 0 for shared layers. Agents start from different `A`s, so that what they learn apart can
    /// be told apart.
    pub agent: u64,
    /// The module's index.
    pub module: usize,
}

/// Row `channel` of the initial `A`: `U(-1/sqrt(d_in), 1/sqrt(d_in))`, PEFT's `kaiming_uniform_(a=sqrt(5))`.
///
/// A baseline costs no memory: it is drawn again whenever it is needed. `generation` counts how often the channel was freed
/// and begun anew.
pub fn initial_row(d_in: usize, address: FactorAddress, channel: usize, generation: u32) -> impl Iterator<Item = f32> {
    let FactorAddress { seed, level, agent, module } = address;
    let bound = 1.0 / (d_in.max(1) as f64).sqrt();
    // The stream's two words: who and which layer; which module, channel and generation.
    let stream = agent << 3 | level.index() as u64;
    let index = (module as u64) << 40 | (channel as u64) << 20 | u64::from(generation & 0xf_ffff);
    let mut rng = stream_rng(seed, Purpose::DynamicAdapter, stream, index);
    (0..d_in).map(move |_| {
        let unit = f64::from(rng.next_u32() >> 8) / f64::from(1_u32 << 24);
        (bound * (2.0 * unit - 1.0)) as f32
    })
}
