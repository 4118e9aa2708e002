//! Adapters against independent computations and against files that Python's peft wrote.

mod circuit_source;
mod damaged_files;
mod hierarchy_files;
mod hierarchy_properties;
mod hierarchy_refusals;
mod hierarchy_replay;
mod initialisation;
mod life;
mod merging;
mod peft_folders;
mod refusals;
mod snapshots;

use std::path::PathBuf;

use dynlora_core::{LoraAdapter, LoraConfig, ModuleShape};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

/// The fixtures made with transformers and peft, where they are.
fn hf_fixtures() -> Option<Vec<PathBuf>> {
    let shared = std::env::var_os("KRYSTAL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(shared.join("fixtures/hf")) else {
        println!("skipped: the fixtures of transformers and peft are not here");
        return None;
    };
    let mut models: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("adapter").is_dir()).collect();
    models.sort();
    assert!(!models.is_empty(), "no model with an adapter in {}", shared.display());
    Some(models)
}

fn shape(name: &str, d_in: usize, d_out: usize) -> ModuleShape {
    ModuleShape { name: name.to_owned(), d_in, d_out }
}

/// Two blocks of awkward, unequal widths.
fn shapes() -> Vec<ModuleShape> {
    let mut shapes = Vec::new();
    for layer in 0..2 {
        for (module, d_in, d_out) in
            [("self_attn.q_proj", 7, 10), ("self_attn.k_proj", 7, 4), ("mlp.up_proj", 7, 13), ("mlp.down_proj", 13, 7)]
        {
            shapes.push(shape(&format!("model.layers.{layer}.{module}"), d_in, d_out));
        }
    }
    shapes
}

/// An adapter whose `B` is not zero either.
fn trained(config: LoraConfig, shapes: &[ModuleShape], seed: u64) -> LoraAdapter {
    let mut adapter = LoraAdapter::new(config, shapes, seed).unwrap();
    for (index, module) in adapter.modules.iter_mut().enumerate() {
        let mut rng = stream_rng(seed, Purpose::Weights, index as u64, 0);
        module.b.fill_with(|| rng.random_range(-1.0..1.0));
    }
    adapter
}
