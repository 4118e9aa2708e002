//! What is trained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use krystal::dynlora::{
    AgentId, HierarchyConfig, LoraAdapter, LoraConfig, LoraHierarchy, SavedHierarchy, TargetModules,
};
use krystal::grpo::data::Record;
use krystal::grpo::lm::{DynamicPolicy, LmPolicy, Ranks};
use krystal::lm::{Keep, LanguageModel, LmBackend, module_shapes};
use krystal::resonance::{ResonanceConfig, ResonanceEngine};
use krystal::spheres::{SphereConfig, count_at_depth};
use serde::Serialize;

use crate::failure::usage;
use crate::model::{must_be_folder, open_adapter};

/// Which weights learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// LoRA factors beside frozen weights
    Lora,
    /// Every weight
    All,
}

/// The value of `--adapter` that asks for layers with dynamics of their own.
pub(crate) const DYNAMIC: &str = "dynamic";

/// The file by which a folder is known to hold a hierarchy.
const HIERARCHY_FILE: &str = "dynlora.json";

/// What the flags ask to be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trained<'o> {
    /// Every weight.
    All,
    /// A plain adapter, from a folder or new.
    Plain(Option<&'o Path>),
    /// Layers with dynamics of their own, from a saved hierarchy or new.
    Dynamic(Option<&'o Path>),
}

impl Trained<'_> {
    /// Whether the run starts from the base model itself.
    pub(crate) fn is_fresh(self) -> bool {
        matches!(self, Self::All | Self::Plain(None) | Self::Dynamic(None))
    }
}

/// Flags of verbs that train.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "What is trained")]
pub(crate) struct TrainableOptions {
    /// lora: factors beside frozen weights; all: every weight
    #[arg(long, value_name = "WHAT", default_value = "lora", hide_possible_values = true)]
    pub(crate) train: What,
    /// PEFT adapter folder to go on from, whose rank, scale and targets stay; or `dynamic`: five layers that learn and forget at
    /// their own pace; or a saved hierarchy of such layers (RUN/adapter/hierarchy)
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
    /// Learners with two layers of their own and three in common; record i belongs to agent i mod N, unless a column `agent` says
    /// whose it is [default: 1; with --adapter dynamic alone]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agents: Option<u64>,
    /// Rank of the factors, for dynamic layers the sum of their ranks [default: 16; dynamic: 31, or 124 from a hidden size of 512]
    #[arg(long, value_name = "R")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lora_r: Option<usize>,
    /// Numerator of their scale, alpha / r
    #[arg(long, value_name = "ALPHA", default_value_t = 32.0)]
    pub(crate) lora_alpha: f64,
    /// Scale by alpha / sqrt(r) instead
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub(crate) use_rslora: bool,
    /// Linear layers that get factors: names separated by commas (q_proj,v_proj), or all-linear
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all-linear")]
    pub(crate) target_modules: Vec<String>,
    /// Compute activations again on the way back: a third more work, several times less memory
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub(crate) recompute: bool,
    /// Depth of the tree of spheres that share out the micro-batches of a gradient: 0 is one sphere on one thread, each level has
    /// twelve times as many; speed and memory only [default: chosen by the micro-batches]
    #[arg(long, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sphere_depth: Option<u32>,
    /// Most sequences that a thread decodes together; speed and memory only
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_batch: usize,
    /// End completions at this string as well; may be given more than once
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
}

impl TrainableOptions {
    /// What the flags ask for.
    pub(crate) fn trained(&self) -> anyhow::Result<Trained<'_>> {
        if let Some(depth) = self.sphere_depth {
            count_at_depth(depth).map_err(|error| usage(format!("--sphere-depth: {error}")))?;
        }
        let path = self.adapter.as_deref();
        // Before minutes of work, not after them.
        if let Some(path) = path.filter(|path| *path != Path::new(DYNAMIC) && !path.is_dir()) {
            anyhow::bail!("{}: expected an adapter's folder or `{DYNAMIC}`, there is no such folder", path.display());
        }
        let is_dynamic = path.is_some_and(|path| path == Path::new(DYNAMIC) || path.join(HIERARCHY_FILE).is_file());
        let trained = match (self.train, path) {
            (What::All, _) if is_dynamic => {
                return Err(usage("--train all has no layers to move: expected --train lora with --adapter dynamic"));
            }
            (What::All, _) => Trained::All,
            (What::Lora, path) if is_dynamic => Trained::Dynamic(path.filter(|path| *path != Path::new(DYNAMIC))),
            (What::Lora, path) => Trained::Plain(path),
        };
        match (self.agents, trained) {
            (Some(0), _) => Err(usage("--agents must be at least 1")),
            (Some(_), Trained::All | Trained::Plain(_)) => {
                Err(usage("--agents needs layers of each agent's own: expected --adapter dynamic beside it"))
            }
            _ => Ok(trained),
        }
    }

    /// The policy that learns, for [`Trained::All`] and [`Trained::Plain`]; `base` is what the adapter's files call the base
    /// model.
    pub(crate) fn policy(
        &self,
        model: Arc<LanguageModel>,
        base: Option<String>,
        seed: u64,
        ranks: &Ranks,
    ) -> anyhow::Result<LmPolicy> {
        let policy = match (self.train, &self.adapter) {
            (What::All, _) => LmPolicy::with_all_weights(model)?,
            (What::Lora, Some(path)) => {
                let adapter = open_adapter(path, &model)?;
                LmPolicy::with_adapter(model, adapter, base)
            }
            (What::Lora, None) => {
                let adapter = LoraAdapter::new(self.lora(), &module_shapes(model.decoder.config()), seed)?;
                LmPolicy::with_adapter(model, adapter, base)
            }
        };
        let policy = policy.with_spheres(self.spheres())?.with_ranks(ranks.clone());
        Ok(policy.with_keep(self.keep()).with_max_batch(self.max_batch).with_stop_strings(self.stop.clone()))
    }

    /// The policy of [`Trained::Dynamic`], for these agents.
    pub(crate) fn dynamic_policy(
        &self,
        saved: Option<&Path>,
        agents: &BTreeSet<u64>,
        model: Arc<LanguageModel>,
        base: Option<String>,
        seed: u64,
        ranks: &Ranks,
    ) -> anyhow::Result<DynamicPolicy> {
        let resonance = Box::new(ResonanceEngine::new(ResonanceConfig::default())?);
        let base_hash = LmBackend::new(Arc::clone(&model)).base_hash();
        let mut hierarchy = match saved {
            Some(path) => {
                must_be_folder(path, "hierarchy")?;
                let saved = SavedHierarchy::load(path, None)?;
                if saved.snapshot.base() != base_hash {
                    bail!("{}: the hierarchy was trained on another model than the one given", path.display());
                }
                LoraHierarchy::from_saved(&saved, resonance)?
            }
            None => {
                let total = self.lora_r.unwrap_or(if model.decoder.config().hidden_size < 512 { 31 } else { 124 });
                if total < 5 {
                    return Err(usage("--lora-r must be at least 5 for five layers, one channel each"));
                }
                let mut config = HierarchyConfig::default().with_total_rank(total);
                config.target_modules = self.target_modules();
                LoraHierarchy::new(config, &module_shapes(model.decoder.config()), base_hash, seed, resonance)?
            }
        };
        for agent in agents {
            hierarchy.add_agent(AgentId(*agent))?;
        }
        let policy = DynamicPolicy::new(model, hierarchy, base)?;
        let policy = policy.with_spheres(self.spheres())?.with_ranks(ranks.clone());
        Ok(policy.with_keep(self.keep()).with_max_batch(self.max_batch).with_stop_strings(self.stop.clone()))
    }

    /// Says whose each record is where the data does not, record `i` being agent `i mod --agents`'s, and gives the agents.
    pub(crate) fn share_out(&self, sets: &mut [&mut Vec<Record>]) -> anyhow::Result<BTreeSet<u64>> {
        const COLUMN: &str = "agent";
        let has_column = sets.iter().any(|set| set.iter().any(|record| record.columns.contains_key(COLUMN)));
        let n_agents = self.agents.unwrap_or(1).max(1);
        let mut agents = BTreeSet::new();
        for (i, record) in sets.iter_mut().flat_map(|set| (0_u64..).zip(set.iter_mut())) {
            match record.columns.get(COLUMN) {
                Some(agent) if agent.as_u64().is_none() => {
                    bail!("record {}: column `{COLUMN}`: expected a whole number, found {agent}", i + 1);
                }
                None if has_column => bail!("record {}: expected a column `{COLUMN}` as others have", i + 1),
                None if n_agents > 1 => {
                    record.columns.insert(COLUMN.to_owned(), (i % n_agents).into());
                }
                _ => {}
            }
            agents.insert(record.agent());
        }
        if !has_column {
            agents.extend(0..n_agents);
        }
        Ok(agents)
    }

    fn keep(&self) -> Keep {
        if self.recompute { Keep::BlockInputs } else { Keep::Activations }
    }

    fn spheres(&self) -> SphereConfig {
        SphereConfig { depth: self.sphere_depth, ..SphereConfig::default() }
    }

    fn target_modules(&self) -> TargetModules {
        match self.target_modules.as_slice() {
            [one] if one.eq_ignore_ascii_case("all-linear") => TargetModules::AllLinear,
            names => TargetModules::Names(names.iter().map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn lora(&self) -> LoraConfig {
        LoraConfig {
            r: self.lora_r.unwrap_or(16),
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules: self.target_modules(),
            ..LoraConfig::default()
        }
    }
}
