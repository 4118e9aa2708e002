//! Both resonances behind the trait of dynlora-core.

use dynlora_core::{
    AgentId, Error as CoreError, Horizontal, Level, Resonance, ResonanceStatistics, SavedState, Vertical,
};
use serde::{Deserialize, Serialize};

use crate::consensus::norm;
use crate::{Error, HorizontalConfig, HorizontalResonance, VerticalConfig, VerticalResonance};

/// Settings of a [`ResonanceEngine`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ResonanceConfig {
    /// How agents' gradients are weighed.
    pub horizontal: HorizontalConfig,
    /// How time-scales are compared.
    pub vertical: VerticalConfig,
}

impl ResonanceConfig {
    /// Both parts.
    pub fn new(horizontal: HorizontalConfig, vertical: VerticalConfig) -> Self {
        Self { horizontal, vertical }
    }
}

/// The [`Resonance`] of a hierarchy: one [`HorizontalResonance`] for each layer, one [`VerticalResonance`] for all agents.
#[derive(Debug, Clone, PartialEq)]
pub struct ResonanceEngine {
    config: ResonanceConfig,
    /// By [`Level::index`].
    horizontal: [HorizontalResonance; 5],
    vertical: VerticalResonance,
    statistics: ResonanceStatistics,
}

impl ResonanceEngine {
    /// An engine without memory yet.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(config: ResonanceConfig) -> Result<Self, Error> {
        let horizontal = HorizontalResonance::new(config.horizontal.clone())?;
        Ok(Self {
            horizontal: std::array::from_fn(|_| horizontal.clone()),
            vertical: VerticalResonance::new(config.vertical.clone())?,
            statistics: ResonanceStatistics::default(),
            config,
        })
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ResonanceConfig {
        &self.config
    }
}

impl Resonance for ResonanceEngine {
    fn horizontal(&mut self, level: Level, gradients: &[(AgentId, &[f32])], aggregate: &mut [f32]) -> Horizontal {
        let (found, counts) = self.horizontal[level.index()].combine(gradients, aggregate);
        self.statistics.aggregations += 1;
        self.statistics.gradients += counts.used;
        self.statistics.gradients_skipped += counts.skipped;
        self.statistics.opposing += counts.opposing;
        self.statistics.dissents += found.dissent.len() as u64;
        found
    }

    fn vertical(&mut self, agent: AgentId, sketch: &[f32]) -> Vertical {
        self.statistics.sketches_skipped += u64::from(norm(sketch).is_none());
        let found = self.vertical.judge(agent, sketch);
        self.statistics.count(found.signal);
        found
    }

    fn end_tick(&mut self) {
        for level in &mut self.horizontal {
            level.end_tick();
        }
        self.vertical.close_tick(&mut self.statistics);
        self.statistics.ticks += 1;
    }

    fn statistics(&self) -> ResonanceStatistics {
        self.statistics.clone()
    }

    fn state(&self) -> SavedState {
        let mut state = SavedState::default();
        self.statistics.save(&mut state);
        for level in Level::ALL {
            self.horizontal[level.index()].save(&format!("horizontal.{level}"), &mut state);
        }
        self.vertical.save("vertical", &mut state);
        state
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), CoreError> {
        let saved = state.reader();
        let mut horizontal = self.horizontal.clone();
        for level in Level::ALL {
            let config = self.config.horizontal.clone();
            horizontal[level.index()] = HorizontalResonance::load(config, &format!("horizontal.{level}"), &saved)?;
        }
        let vertical = VerticalResonance::load(self.config.vertical.clone(), "vertical", &saved)?;
        self.statistics = ResonanceStatistics::load(&saved)?;
        (self.horizontal, self.vertical) = (horizontal, vertical);
        Ok(())
    }
}
