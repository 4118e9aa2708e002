//! `krystal adapter inspect`.

use std::path::PathBuf;

use clap::Args;
use krystal::dynlora::{LoraAdapter, LoraModule, stored_shapes};
use serde::Serialize;
use serde_json::json;

use super::hierarchy;
use crate::model::must_be_folder;
use crate::terminal::Terminal;

/// Flags of `krystal adapter inspect`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal adapter inspect runs/train-1/adapter
  krystal adapter inspect runs/train-1/adapter --json

Norms are Frobenius norms of the factors A and B and of the update, scale * B A. Of a saved hierarchy (a folder with
dynlora.json, or with hierarchy/dynlora.json) the layers are shown: tau is the time after which a free channel has lost all
but 1/e without use, screened the share of parameters that are kept from change.")]
pub(crate) struct Options {
    /// PEFT adapter folder, or folder of a saved hierarchy
    #[arg(value_name = "DIR")]
    pub(crate) adapter: PathBuf,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    must_be_folder(&options.adapter, "adapter")?;
    if let Some(folder) = hierarchy::folder(&options.adapter) {
        return hierarchy::inspect(&folder, terminal);
    }
    let adapter = LoraAdapter::load(&options.adapter, &stored_shapes(&options.adapter)?)?;
    let width = adapter.modules.iter().map(|module| module.name.len()).max().unwrap_or(0).max("module".len());
    terminal.line(&format!(
        "{:width$} {:>13} {:>5} {:>9} {:>10} {:>10} {:>10}",
        "module", "shape", "rank", "scale", "|A|", "|B|", "|update|"
    ));
    let mut modules = Vec::new();
    for module in &adapter.modules {
        let (a, b, update) = (norm(&module.a), norm(&module.b), update_norm(module));
        terminal.line(&format!(
            "{:width$} {:>13} {:>5} {:>9} {a:>10.4} {b:>10.4} {update:>10.4}",
            module.name,
            format!("{} x {}", module.d_out, module.d_in),
            module.rank,
            module.scale,
        ));
        modules.push(json!({
            "name": module.name, "d_in": module.d_in, "d_out": module.d_out, "rank": module.rank, "scale": module.scale,
            "norm_a": a, "norm_b": b, "norm_update": update,
        }));
    }
    let config = &adapter.config;
    terminal.line(&format!(
        "{} modules, {} parameters; r {}, alpha {}{}, targets {}",
        adapter.modules.len(),
        adapter.num_parameters(),
        config.r,
        config.lora_alpha,
        if config.use_rslora { ", rank-stabilised" } else { "" },
        config.target_modules,
    ));
    terminal.json(&json!({ "config": config, "parameters": adapter.num_parameters(), "modules": modules }));
    Ok(())
}

/// Frobenius norm.
fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Frobenius norm of `scale * B A`, without forming it: `|BA|^2 = sum((B^T B) * (A A^T))`.
pub(super) fn update_norm(module: &LoraModule) -> f64 {
    let (r, d_in) = (module.rank, module.d_in);
    let mut sum = 0.0;
    for i in 0..r {
        for j in 0..r {
            let rows = |i: usize| &module.a[i * d_in..][..d_in];
            let aa: f64 = rows(i).iter().zip(rows(j)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let bb: f64 = module.b.chunks_exact(r).map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
            sum += aa * bb;
        }
    }
    // Rounding can take a norm of zero below it.
    f64::from(module.scale).abs() * sum.max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_the_update_is_that_of_the_product() {
        let value = |i: usize| ((i * 37 % 11) as f32 - 5.0) / 7.0;
        let module = LoraModule {
            name: "m".to_owned(),
            d_in: 5,
            d_out: 7,
            rank: 3,
            scale: -1.5,
            a: (0..15).map(value).collect(),
            b: (3..24).map(value).collect(),
        };
        assert!((update_norm(&module) - norm(&module.delta())).abs() < 1e-5);
    }
}
