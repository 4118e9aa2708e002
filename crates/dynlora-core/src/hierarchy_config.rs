//! How a hierarchy is built and what it does each tick.

use serde::{Deserialize, Serialize};

use crate::{
    CircuitDetectorConfig, DirectionalConfig, Error, LayerConfig, Level, Mechanisms, MigrationConfig, RegimeConfig,
    StalenessPolicy, TargetModules, TrajectoryCacheConfig,
};

/// Settings of a [`LoraHierarchy`](crate::LoraHierarchy).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HierarchyConfig {
    /// Ranks by level, Foundation first; default 64, 32, 16, 8, 4. Modules that are too small for them get less (R2).
    pub ranks: [usize; 5],
    /// Base inertia by level, in `[0, 1)`; default 0 for all: time scales of their own cost the layers accuracy in the
    /// continual-learning suite (`docs/benchmarks/continual.md`), where inertia along directions keeps what was learned.
    /// The seeds' are [`Level::base_inertia`].
    pub base_inertia: [f64; 5],
    /// Which linear layers have factors; default all.
    pub target_modules: TargetModules,
    /// How layers move. `base_inertia` and `reference_rank` in it are set from this configuration. Rates that depend on rank,
    /// decay, screening and inertia that grows with use are off by default: each cost accuracy in the continual-learning suite
    /// (`docs/benchmarks/continual.md`); [`HierarchyConfig::seeds`] has them on.
    pub layer: LayerConfig,
    /// Inertia along what was read before.
    pub directional: DirectionalConfig,
    /// When a regime of data ends.
    pub regime: RegimeConfig,
    /// Where several agents learn, the rate of the shared layers is multiplied by this power of their consensus
    /// ([`Horizontal::consensus`](crate::Horizontal::consensus)), >= 0: what they do not agree on is left to the private
    /// layers. With 2, the default, the factor is the share of the gradients' energy that they have in common; 0 is none.
    pub agreement: f64,
    /// How circuits move to slower layers.
    pub migration: MigrationConfig,
    /// How circuits are found.
    pub circuits: CircuitDetectorConfig,
    /// What is kept of trajectories, where no other source of circuits is given.
    pub trajectories: TrajectoryCacheConfig,
    /// How old gradients may be.
    pub staleness: StalenessPolicy,
    /// Ticks between two snapshots; default 1. More keep caches over a snapshot valid for longer (R53).
    pub publish_ticks: u64,
    /// Ticks between two health reports; default 32, 0 for none.
    pub health_ticks: u64,
    /// Whether publications are recorded in the provenance chain, with a digest of every gradient; default true.
    pub provenance: bool,
}

impl Default for HierarchyConfig {
    fn default() -> Self {
        Self {
            ranks: Level::ALL.map(Level::nominal_rank),
            base_inertia: [0.0; 5],
            target_modules: TargetModules::AllLinear,
            layer: LayerConfig {
                rank_exponent: Some(0.0),
                mechanisms: Mechanisms { decay: false, screening: false, inertia: false, homeostasis: true },
                ..LayerConfig::default()
            },
            directional: DirectionalConfig::default(),
            regime: RegimeConfig::default(),
            agreement: 2.0,
            migration: MigrationConfig::default(),
            circuits: CircuitDetectorConfig::default(),
            trajectories: TrajectoryCacheConfig::default(),
            staleness: StalenessPolicy::default(),
            publish_ticks: 1,
            health_ticks: 32,
            provenance: true,
        }
    }
}

impl HierarchyConfig {
    /// What the seeds describe, as the specification mends it: their base inertias, with decay, screening, inertia that grows
    /// with use and homeostasis on, and without inertia along directions.
    pub fn seeds() -> Self {
        Self {
            base_inertia: Level::ALL.map(Level::base_inertia),
            agreement: 0.0,
            layer: LayerConfig::default(),
            directional: DirectionalConfig { enabled: false, ..DirectionalConfig::default() },
            ..Self::default()
        }
    }

    /// A stack scaled to about `total` channels in the proportions of the nominal ranks, at least one a layer.
    ///
    /// ```
    /// use dynlora_core::HierarchyConfig;
    /// assert_eq!(HierarchyConfig::default().with_total_rank(124).ranks, [64, 32, 16, 8, 4]);
    /// assert_eq!(HierarchyConfig::default().with_total_rank(31).ranks, [16, 8, 4, 2, 1]);
    /// ```
    #[must_use]
    pub fn with_total_rank(mut self, total: usize) -> Self {
        self.ranks = Level::ALL.map(|level| (level.nominal_rank() * total / 124).max(1));
        self
    }

    /// Checks everything that does not depend on a model.
    ///
    /// # Errors
    /// [`Error::Field`] names the first that cannot be.
    pub fn validate(&self) -> Result<(), Error> {
        if let Some(rank) = self.ranks.iter().find(|rank| !(1..=crate::MAX_RANK).contains(*rank)) {
            return Err(Error::field("ranks", format!("five ranks from 1 to {}", crate::MAX_RANK), rank));
        }
        if self.publish_ticks == 0 {
            return Err(Error::field("publish_ticks", "at least 1", 0));
        }
        if !(self.agreement >= 0.0 && self.agreement.is_finite()) {
            return Err(Error::field("agreement", "a finite number of at least 0", self.agreement));
        }
        self.directional.validate()?;
        self.regime.validate()?;
        Level::ALL.into_iter().try_for_each(|level| self.layer_config(level).validate())
    }

    /// How the layers of a level move.
    pub fn layer_config(&self, level: Level) -> LayerConfig {
        LayerConfig {
            base_inertia: Some(self.base_inertia[level.index()]),
            reference_rank: self.ranks[Level::Swarm.index()],
            ..self.layer.clone()
        }
    }
}
