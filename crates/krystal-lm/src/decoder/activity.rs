//! What a backward pass measures beside gradients: how the channels of an adapter are used, which inputs its modules see, and
//! a sketch of the gradient of the weights themselves.
//!
//! Everything is a sum over rows, so that chunks add up like gradients, and is made of what the backward pass holds anyway.

use std::sync::Arc;

use dynlora_core::{ModuleActivity, StackActivity};
use krystal_math::rng::{Purpose, stream_rng};
use rand::Rng;

use crate::config::ModelConfig;
use crate::kernels::Kernels;
use crate::lora::LoraWeights;

use super::Projection;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityPlan {
    /// Random signed sums of a module's inputs: `S (s, d_in)` with `E[S^T S] = X^T X`. 0 measures none. Default 8.
    pub input_sums: usize,
    /// Rows and columns of the two-sided sketch `P G Q^T` of a module's `G = dL/dW`; default 16, 0 measures none. Costs
    /// `rows * side * side` multiplications a module.
    pub sketch_side: usize,
    /// Sketches that modules are added into, by turns; the whole has `slots * side^2` numbers (default 4: 1024).
    pub sketch_slots: usize,
    /// Seed of the sketch's signs: sketches compare only under one seed.
    pub seed: u64,
}

impl Default for ActivityPlan {
    fn default() -> Self {
        Self { input_sums: 8, sketch_side: 16, sketch_slots: 4, seed: 0 }
    }
}

/// Signs that fold a module's outputs and inputs onto the sketch.
#[derive(Debug)]
struct Signs<K: Kernels> {
    d_out: K::Buffer,
    d_in: K::Buffer,
}

/// The measurements of a backward pass, accumulated.
#[derive(Debug)]
pub(crate) struct Activity<K: Kernels> {
    plan: ActivityPlan,
    /// By layer and projection: which module it is.
    index: Arc<Vec<[Option<usize>; 7]>>,
    signs: Arc<Vec<Signs<K>>>,
    /// `(rank, d_in)` of each module.
    sizes: Arc<Vec<(usize, usize)>>,
    /// Names the rows of a chunk: those of another chunk must not share their signs.
    pub(crate) stream: u64,
    pub(crate) n_rows: u64,
    row_signs: K::Buffer,
    /// 1 for each row.
    ones: K::Buffer,
    /// Sum of the first module's inputs.
    input_sum: K::Buffer,
    second_moment: Vec<K::Buffer>,
    inputs: Vec<K::Buffer>,
    sketch: Vec<K::Buffer>,
    folded: [K::Buffer; 2],
}

fn random_signs(seed: u64, stream: u64, index: u64, len: usize) -> Vec<f32> {
    let mut rng = stream_rng(seed, Purpose::Sketch, stream, index);
    let mut signs = Vec::with_capacity(len);
    while signs.len() < len {
        let word = rng.next_u32();
        signs.extend((0..32.min(len - signs.len())).map(|bit| if word >> bit & 1 == 1 { 1.0 } else { -1.0 }));
    }
    signs
}

impl<K: Kernels> Activity<K> {
    pub(crate) fn new(kernels: &K, config: &ModelConfig, lora: &LoraWeights<K>, plan: ActivityPlan) -> Self {
        let mut index = vec![[None; 7]; config.num_hidden_layers];
        let (mut signs, mut sizes) = (Vec::new(), Vec::new());
        for (layer, index) in index.iter_mut().enumerate() {
            for projection in Projection::ALL {
                let Some(pair) = lora.get(layer, projection) else { continue };
                let (n, k) = projection.shape(config);
                let module = signs.len() as u64;
                index[projection as usize] = Some(signs.len());
                signs.push(Signs {
                    d_out: kernels.upload(&random_signs(plan.seed, module, 0, n)),
                    d_in: kernels.upload(&random_signs(plan.seed, module, 1, k)),
                });
                sizes.push((pair.rank, k));
            }
        }
        let empty = Self {
            plan,
            index: Arc::new(index),
            signs: Arc::new(signs),
            sizes: Arc::new(sizes),
            stream: 0,
            n_rows: 0,
            row_signs: kernels.zeros(0),
            ones: kernels.zeros(0),
            input_sum: kernels.zeros(0),
            second_moment: Vec::new(),
            inputs: Vec::new(),
            sketch: Vec::new(),
            folded: [kernels.zeros(0), kernels.zeros(0)],
        };
        empty.zeros_like(kernels)
    }

    pub(crate) fn zeros_like(&self, kernels: &K) -> Self {
        let plan = self.plan;
        Self {
            plan,
            index: Arc::clone(&self.index),
            signs: Arc::clone(&self.signs),
            sizes: Arc::clone(&self.sizes),
            stream: 0,
            n_rows: 0,
            row_signs: kernels.zeros(0),
            ones: kernels.zeros(0),
            input_sum: kernels.zeros(self.sizes.first().map_or(0, |(_, d_in)| *d_in)),
            second_moment: self.sizes.iter().map(|(rank, _)| kernels.zeros(rank * rank)).collect(),
            inputs: self.sizes.iter().map(|(_, d_in)| kernels.zeros(plan.input_sums * d_in)).collect(),
            sketch: (0..if plan.sketch_side > 0 { plan.sketch_slots } else { 0 })
                .map(|_| kernels.zeros(plan.sketch_side * plan.sketch_side))
                .collect(),
            folded: [kernels.zeros(0), kernels.zeros(0)],
        }
    }

    /// Every sum over rows but their number.
    pub(crate) fn sums(&self) -> impl Iterator<Item = &K::Buffer> {
        let modules = self.second_moment.iter().chain(&self.inputs);
        std::iter::once(&self.input_sum).chain(modules).chain(&self.sketch)
    }

    pub(crate) fn sums_mut(&mut self) -> impl Iterator<Item = &mut K::Buffer> {
        let modules = self.second_moment.iter_mut().chain(&mut self.inputs);
        std::iter::once(&mut self.input_sum).chain(modules).chain(&mut self.sketch)
    }

    /// Begins a batch of `rows` rows.
    pub(crate) fn begin(&mut self, kernels: &K, rows: usize) {
        self.n_rows += rows as u64;
        self.ones = kernels.upload(&vec![1.0; rows]);
        let sums = self.plan.input_sums;
        if sums > 0 {
            // Stream 2^32 and up: below lie the modules' signs.
            let signs = random_signs(self.plan.seed, (1 << 32) + self.stream, 0, rows * sums);
            self.row_signs = kernels.upload(&signs);
        }
    }

    /// Takes in one module: `dy (rows, n)`, `x (rows, k)` and `h = A x (rows, r)`.
    pub(crate) fn observe(
        &mut self,
        kernels: &K,
        (layer, projection): (usize, Projection),
        dy: &K::Buffer,
        x: &K::Buffer,
        h: &K::Buffer,
        rows: usize,
    ) {
        let Some(module) = self.index[layer][projection as usize] else { return };
        let (rank, d_in) = self.sizes[module];
        kernels.weight_gradient(h, rank, h, rank, rows, &mut self.second_moment[module]);
        if module == 0 {
            kernels.weight_gradient(&self.ones, 1, x, d_in, rows, &mut self.input_sum);
        }
        let (sums, side) = (self.plan.input_sums, self.plan.sketch_side);
        if sums > 0 {
            kernels.weight_gradient(&self.row_signs, sums, x, d_in, rows, &mut self.inputs[module]);
        }
        if side > 0 {
            let [out, inp] = &mut self.folded;
            let signs = &self.signs[module];
            kernels.fold(dy, &signs.d_out, side, out);
            kernels.fold(x, &signs.d_in, side, inp);
            let slot = module % self.sketch.len().max(1);
            kernels.weight_gradient(out, side, inp, side, rows, &mut self.sketch[slot]);
        }
    }

    /// What was seen, and the sketch.
    pub(crate) fn values(&self, kernels: &K) -> (StackActivity, Vec<f32>) {
        let modules = self.second_moment.iter().zip(&self.inputs).map(|(second_moment, inputs)| ModuleActivity {
            second_moment: kernels.download(second_moment),
            inputs: kernels.download(inputs),
        });
        let input_sum = kernels.download(&self.input_sum);
        let activity = StackActivity { n_rows: self.n_rows, input_sum, modules: modules.collect() };
        (activity, self.sketch.iter().flat_map(|slot| kernels.download(slot)).collect())
    }
}
