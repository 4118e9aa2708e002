//! Layers and stacks as plain PEFT adapters, and plain adapters as layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use krystal_math::low_rank::low_rank_svd;
use serde::{Deserialize, Serialize};

use crate::{
    AgentId, Error, LayerFactors, Level, LoraAdapter, LoraConfig, LoraModule, ModuleFactors, ModuleShape, PatternMap,
    Snapshot, TargetModules,
};

/// What a stack lost when it was cut to a lower rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncation {
    /// Rank that was kept of every module.
    pub rank: usize,
    /// Frobenius norm of what was dropped, over all modules.
    pub frobenius_error: f64,
    /// The same as a share of the norm of the whole; 0 for a stack that adds nothing.
    pub relative_error: f64,
    /// Largest singular value that was dropped, of any module.
    pub spectral_error: f64,
}

impl Snapshot {
    /// One layer as an adapter of scale 1 (`alpha = r`): `rank_pattern` where modules differ in rank. `None` for a private
    /// layer of an unknown agent.
    pub fn layer_adapter(&self, level: Level, agent: AgentId) -> Option<LoraAdapter> {
        let factors = self.layer(level, agent)?;
        let modules: Vec<LoraModule> =
            self.shapes().iter().zip(factors).map(|(shape, pair)| lora_module(shape, pair, pair.rank)).collect();
        let ranks: Vec<(&str, usize)> = modules.iter().map(|module| (module.name.as_str(), module.rank)).collect();
        let r = commonest(&ranks);
        let rank_pattern = rank_pattern(&ranks, r);
        let alpha_pattern = rank_pattern.iter().map(|(key, rank)| (key.to_owned(), *rank as f64)).collect();
        let config = LoraConfig { rank_pattern, alpha_pattern, ..plain(r, &modules) };
        Some(LoraAdapter { config, modules })
    }

    /// The whole stack of an agent as one adapter that computes exactly the same: one rank for all modules and `alpha = r`, as
    /// vLLM needs, with channels of zeros where a module has fewer. `None` for an unknown agent.
    pub fn fused_adapter(&self, agent: AgentId) -> Option<LoraAdapter> {
        let fused = self.fused(agent)?;
        let rank = fused.iter().map(|pair| pair.factors.rank).max().unwrap_or(0).max(1);
        let modules: Vec<LoraModule> =
            self.shapes().iter().zip(&fused).map(|(shape, pair)| lora_module(shape, &pair.factors, rank)).collect();
        Some(LoraAdapter { config: plain(rank, &modules), modules })
    }

    /// The stack of an agent cut to the `rank` largest singular values of each module, and what that lost. `None` for an
    /// unknown agent.
    ///
    /// # Panics
    /// If `rank` is 0.
    pub fn truncated_adapter(&self, agent: AgentId, rank: usize) -> Option<(LoraAdapter, Truncation)> {
        assert!(rank > 0, "an adapter has at least rank 1");
        let fused = self.fused(agent)?;
        let (mut lost, mut whole, mut spectral_error) = (0.0, 0.0, 0.0_f64);
        let mut modules = Vec::with_capacity(fused.len());
        for (shape, pair) in self.shapes().iter().zip(&fused) {
            let pair = &pair.factors;
            let b: Vec<&[f32]> = (0..pair.rank).map(|channel| pair.b_row(channel)).collect();
            let a: Vec<&[f32]> = (0..pair.rank).map(|channel| pair.a_row(channel)).collect();
            let svd = low_rank_svd(&b, &a);
            let error = svd.truncation_error(rank);
            lost += error.frobenius.powi(2);
            whole += svd.frobenius_norm().powi(2);
            spectral_error = spectral_error.max(error.spectral);
            let kept = rank.min(svd.rank());
            let (d_in, d_out) = (pair.d_in, pair.d_out);
            let mut cut = ModuleFactors { d_in, d_out, rank: kept, a: Vec::new(), b: Vec::new() };
            for i in 0..kept {
                // Both halves equally long: neither can leave the range of f32 before the product does.
                let (b, a) = svd.term(i, svd.singular_values[i].sqrt());
                cut.a.extend(a);
                cut.b.extend(b);
            }
            modules.push(lora_module(shape, &cut, rank));
        }
        let relative_error = if whole > 0.0 { (lost / whole).sqrt() } else { 0.0 };
        let truncation = Truncation { rank, frobenius_error: lost.sqrt(), relative_error, spectral_error };
        Some((LoraAdapter { config: plain(rank, &modules), modules }, truncation))
    }

    /// What the stack of an agent adds to each weight: module names and `(d_out, d_in)` row-major values, summed in f64 and
    /// rounded once. `None` for an unknown agent.
    pub fn merged_delta(&self, agent: AgentId) -> Option<Vec<(String, Vec<f32>)>> {
        let adapter = self.fused_adapter(agent)?;
        Some(adapter.modules.into_iter().map(|module| (module.name.clone(), module.delta())).collect())
    }
}

/// A layer with the channels of an adapter in front, its scale folded into `B`; the channels behind keep their `A` and add
/// nothing. Modules that the adapter lacks add nothing.
///
/// # Errors
/// [`Error::UnknownTarget`] if the adapter has a module that the hierarchy lacks, [`Error::Module`] if it has other widths or
/// more channels than the layer.
pub fn import_adapter(
    adapter: &LoraAdapter,
    shapes: &[ModuleShape],
    layer: &LayerFactors,
) -> Result<LayerFactors, Error> {
    if let Some(stray) = adapter.modules.iter().find(|module| !shapes.iter().any(|shape| shape.name == module.name)) {
        let available = shapes.iter().map(|shape| shape.name.clone()).collect();
        return Err(Error::UnknownTarget { target: stray.name.clone(), available });
    }
    let import = |(shape, pair): (&ModuleShape, &Arc<ModuleFactors>)| {
        let mut factors = ModuleFactors::clone(pair);
        factors.b.fill(0.0);
        let Some(module) = adapter.module(&shape.name) else { return Ok(Arc::new(factors)) };
        let wrong = |what, expected: String, found: usize| Err(Error::module(&shape.name, what, expected, found));
        if (module.d_in, module.d_out) != (factors.d_in, factors.d_out) {
            let (expected, found) = ((factors.d_in, factors.d_out), (module.d_in, module.d_out));
            return Err(Error::module(&shape.name, "widths (in, out)", format!("{expected:?}"), format!("{found:?}")));
        }
        if module.rank > factors.rank {
            return wrong("rank", format!("at most {}", factors.rank), module.rank);
        }
        if module.a.len() != module.rank * module.d_in {
            return wrong("values in A", format!("{} x {}", module.rank, module.d_in), module.a.len());
        }
        if module.b.len() != module.rank * module.d_out {
            return wrong("values in B", format!("{} x {}", module.d_out, module.rank), module.b.len());
        }
        factors.a[..module.a.len()].copy_from_slice(&module.a);
        for channel in 0..module.rank {
            let row = factors.b_row_mut(channel);
            for (value, stored) in row.iter_mut().zip(module.b[channel..].iter().step_by(module.rank)) {
                *value = module.scale * stored;
            }
        }
        Ok(Arc::new(factors))
    };
    shapes.iter().zip(layer).map(import).collect()
}

/// Factors as stored by [`lora_module`], channel by channel again.
pub(crate) fn module_factors(module: &LoraModule) -> ModuleFactors {
    let LoraModule { d_in, d_out, rank, .. } = *module;
    let b = (0..rank).flat_map(|channel| module.b[channel..].iter().step_by(rank).copied()).collect();
    ModuleFactors { d_in, d_out, rank, a: module.a.clone(), b }
}

/// `factors` in PEFT's orientation, with channels of zeros up to `rank`.
fn lora_module(shape: &ModuleShape, factors: &ModuleFactors, rank: usize) -> LoraModule {
    let ModuleFactors { d_in, d_out, .. } = *factors;
    let mut a = factors.a.clone();
    a.resize(rank * d_in, 0.0);
    let mut b = vec![0.0; d_out * rank];
    for channel in 0..factors.rank {
        for (row, value) in b.chunks_exact_mut(rank).zip(factors.b_row(channel)) {
            row[channel] = *value;
        }
    }
    LoraModule { name: shape.name.clone(), d_in, d_out, rank, scale: 1.0, a, b }
}

/// One rank, scale 1, and exactly these modules.
fn plain(r: usize, modules: &[LoraModule]) -> LoraConfig {
    let names = modules.iter().map(|module| module.name.clone()).collect();
    LoraConfig { r, lora_alpha: r as f64, target_modules: TargetModules::Names(names), ..LoraConfig::default() }
}

/// The rank that most modules have; of several, the largest.
fn commonest(ranks: &[(&str, usize)]) -> usize {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    ranks.iter().for_each(|(_, rank)| *counts.entry(*rank).or_default() += 1);
    counts.into_iter().max_by_key(|(rank, count)| (*count, *rank)).map_or(1, |(rank, _)| rank)
}

/// Patterns for the modules whose rank is not `r`: the last component of their name where all that share it agree, and the
/// whole name otherwise.
fn rank_pattern(ranks: &[(&str, usize)], r: usize) -> PatternMap<usize> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let mut by_last: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    ranks.iter().for_each(|(name, rank)| by_last.entry(last(name)).or_default().push((name, *rank)));
    let mut patterns = Vec::new();
    for (last, modules) in by_last {
        let first = modules[0].1;
        if modules.iter().all(|(_, rank)| *rank == first) {
            patterns.extend((first != r).then(|| (escaped(&last), first)));
        } else {
            patterns.extend(modules.iter().filter(|(_, rank)| *rank != r).map(|(name, rank)| (escaped(name), *rank)));
        }
    }
    patterns.into_iter().collect()
}

/// A name as a regular expression, of Python's as well: dots are left alone, as PEFT leaves them.
fn escaped(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if plain { name.to_owned() } else { fancy_regex::escape(name).into_owned() }
}
