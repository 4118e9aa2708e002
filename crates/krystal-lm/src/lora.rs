//! An adapter in the kernels' layout.

use dynlora_core::{FusedFactors, LoraAdapter, ModuleShape};

use crate::config::ModelConfig;
use crate::decoder::Projection;
use crate::kernels::Kernels;

/// The factors of one module: `y += (x A^T)(s B)^T`.
#[derive(Debug)]
pub(crate) struct LoraPair<K: Kernels> {
    pub(crate) rank: usize,
    /// The factor `s = alpha / r` (or `alpha / sqrt(r)`).
    pub(crate) scale: f32,
    /// `A`, `(r, k)`.
    pub(crate) a: K::Matrix,
    /// `s B`, `(n, r)`.
    pub(crate) b: K::Matrix,
}

/// A published adapter: immutable, shared by everything that reads it.
#[derive(Debug)]
pub struct LoraWeights<K: Kernels> {
    layers: Vec<[Option<LoraPair<K>>; 7]>,
}

impl<K: Kernels> LoraWeights<K> {
    /// Packs an adapter's current values.
    ///
    /// # Panics
    /// If the adapter was made for other [`module_shapes`] than this model's.
    pub fn new(kernels: &K, config: &ModelConfig, adapter: &LoraAdapter) -> Self {
        let mut layers: Vec<[Option<LoraPair<K>>; 7]> =
            (0..config.num_hidden_layers).map(|_| Default::default()).collect();
        for module in &adapter.modules {
            let (layer, projection) = place(config, &module.name, (module.d_out, module.d_in));
            let scaled: Vec<f32> = module.b.iter().map(|b| b * module.scale).collect();
            layers[layer][projection as usize] = Some(LoraPair {
                rank: module.rank,
                scale: module.scale,
                a: kernels.matrix(&module.a, module.rank, module.d_in),
                b: kernels.matrix(&scaled, module.d_out, module.rank),
            });
        }
        Self { layers }
    }

    /// Packs the fused stack of a snapshot: one pair a module, of scale 1, for modules in the order of `shapes`.
    ///
    /// # Panics
    /// If the modules are not this model's.
    pub fn from_fused(kernels: &K, config: &ModelConfig, shapes: &[ModuleShape], fused: &[FusedFactors]) -> Self {
        let mut layers: Vec<[Option<LoraPair<K>>; 7]> =
            (0..config.num_hidden_layers).map(|_| Default::default()).collect();
        for (shape, FusedFactors { factors, .. }) in shapes.iter().zip(fused) {
            let (layer, projection) = place(config, &shape.name, (factors.d_out, factors.d_in));
            let (rank, d_out) = (factors.rank, factors.d_out);
            let b: Vec<f32> = (0..d_out).flat_map(|i| (0..rank).map(move |j| factors.b[j * d_out + i])).collect();
            layers[layer][projection as usize] = Some(LoraPair {
                rank,
                scale: 1.0,
                a: kernels.matrix(&factors.a, rank, factors.d_in),
                b: kernels.matrix(&b, d_out, rank),
            });
        }
        Self { layers }
    }

    pub(crate) fn get(&self, layer: usize, projection: Projection) -> Option<&LoraPair<K>> {
        self.layers[layer][projection as usize].as_ref()
    }

    /// The first layer that has a factor: gradients need not be carried below it.
    pub(crate) fn first_layer(&self) -> usize {
        self.layers.iter().position(|l| l.iter().any(Option::is_some)).unwrap_or(self.layers.len())
    }
}

/// Where a module of an adapter belongs.
///
/// # Panics
/// If the model has no such module, or of another shape.
fn place(config: &ModelConfig, name: &str, adapter: (usize, usize)) -> (usize, Projection) {
    let Some((layer, projection)) = locate(name).filter(|(layer, _)| *layer < config.num_hidden_layers) else {
        panic!("the model has no module `{name}`");
    };
    let model = projection.shape(config);
    assert!(model == adapter, "`{name}` is {model:?} in the model and {adapter:?} in the adapter");
    (layer, projection)
}

/// Layer and projection of a module name such as `model.layers.3.mlp.up_proj`.
fn locate(name: &str) -> Option<(usize, Projection)> {
    let (layer, path) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let projection = Projection::ALL.into_iter().find(|p| p.path() == path)?;
    Some((layer.parse().ok()?, projection))
}

/// Every module that an adapter may target, layer by layer.
pub fn module_shapes(config: &ModelConfig) -> Vec<ModuleShape> {
    (0..config.num_hidden_layers)
        .flat_map(|layer| {
            Projection::ALL.map(|projection| {
                let (d_out, d_in) = projection.shape(config);
                ModuleShape { name: projection.module(layer), d_in, d_out }
            })
        })
        .collect()
}
