//! Cooling that begins again when it has measurably come to an end.

use serde::{Deserialize, Serialize};

use super::schedule::{Block, Schedule, check_range};
use crate::error::{Result, setting};

/// Settings of [`Reheating`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReheatingConfig {
    /// The highest temperature, where the first cooling begins, finite; from [`initial_temperature`](super::initial_temperature).
    /// Default 1.
    pub hot: f64,
    /// The temperature at which a cooling ends at the latest, above 0 and at most `hot`; default 0.01.
    pub cold: f64,
    /// Blocks that a cooling from `hot` to `cold` would take, at least 1; default 25. One that stalls, or begins below `hot`, takes
    /// fewer.
    pub n_blocks: u64,
    /// Blocks in a row without a change that are a stall, at least 1; default 3.
    pub patience: u64,
    /// Changes that count as none, as a share of all that the energy has fallen so far, at least 0; default 0.001.
    pub tolerance: f64,
    /// The first reheat, in units of the temperature at which the search froze, at least 1; default 1.5.
    pub heat: f64,
    /// By how much each further reheat is hotter while nothing better is found, above 1; default 1.15.
    pub hotter: f64,
}

impl Default for ReheatingConfig {
    fn default() -> Self {
        Self { hot: 1.0, cold: 0.01, n_blocks: 25, patience: 3, tolerance: 1e-3, heat: 1.5, hotter: 1.15 }
    }
}

/// Cools geometrically; when it measures that the search is frozen, it reheats, from where the search froze.
///
/// A stall is `patience` blocks in a row whose lowest energies are the same, within `tolerance`. The temperature of the last block
/// that still found something else is where this search froze, `T_f`, whatever the problem's scale. The next cooling
/// begins at `heat T_f`; if it finds nothing better, the one after at `heat * hotter T_f`, and so on up to `hot`, after which the ladder
/// begins again at its foot, as it does after every improvement. Low reheats are short and mend small faults, high ones leave the
/// funnel. The state is never set back: of what it finds the annealer keeps the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reheating {
    config: ReheatingConfig,
    temperature: f64,
    /// The mean energy of the first block.
    start: Option<f64>,
    last: Option<f64>,
    n_unchanged: u64,
    frozen_at: f64,
    /// The lowest energy since the last reheat, and before it.
    lowest: Option<f64>,
    best: Option<f64>,
    rung: f64,
    n_reheats: u64,
}

impl Reheating {
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting outside its range.
    pub fn new(config: ReheatingConfig) -> Result<Self> {
        let ReheatingConfig { hot, cold, n_blocks, patience, tolerance, heat, hotter } = config;
        check_range(hot, cold)?;
        setting(n_blocks >= 1, "n_blocks", "at least 1", n_blocks as f64)?;
        setting(patience >= 1, "patience", "at least 1", patience as f64)?;
        setting((0.0..1.0).contains(&tolerance), "tolerance", "at least 0 and below 1", tolerance)?;
        setting(heat >= 1.0 && heat.is_finite(), "heat", "at least 1 and finite", heat)?;
        setting(hotter > 1.0 && hotter.is_finite(), "hotter", "above 1 and finite", hotter)?;
        Ok(Self {
            config,
            temperature: hot,
            start: None,
            last: None,
            n_unchanged: 0,
            frozen_at: hot,
            lowest: None,
            best: None,
            rung: heat,
            n_reheats: 0,
        })
    }

    /// Reheats so far.
    pub fn n_reheats(&self) -> u64 {
        self.n_reheats
    }

    fn reheat(&mut self) {
        let ReheatingConfig { hot, cold, heat, hotter, .. } = self.config;
        let improved = match (self.lowest, self.best) {
            (Some(lowest), Some(best)) => lowest < best,
            _ => true,
        };
        self.rung = if improved || self.rung * self.frozen_at >= hot { heat } else { self.rung * hotter };
        self.best = if improved { self.lowest } else { self.best };
        self.temperature = (self.rung * self.frozen_at).clamp(cold, hot);
        (self.lowest, self.last, self.n_unchanged) = (None, None, 0);
        self.n_reheats += 1;
    }
}

impl Schedule for Reheating {
    fn temperature(&self) -> f64 {
        self.temperature
    }

    fn tick(&mut self, block: &Block) -> Result<()> {
        let ReheatingConfig { hot, cold, n_blocks, patience, tolerance, .. } = self.config;
        let start = *self.start.get_or_insert(block.mean_energy);
        let lowest = self.lowest.map_or(block.lowest, |lowest| lowest.min(block.lowest));
        self.lowest = Some(lowest);
        let fallen = start - self.best.map_or(lowest, |best| best.min(lowest));
        let unchanged = self.last.is_some_and(|last| (block.lowest - last).abs() <= tolerance * fallen);
        self.last = Some(block.lowest);
        self.n_unchanged = if unchanged { self.n_unchanged + 1 } else { 0 };
        if !unchanged {
            self.frozen_at = block.temperature;
        }
        self.temperature *= (cold / hot).powf(1.0 / n_blocks as f64);
        if self.n_unchanged >= patience || self.temperature < cold {
            self.reheat();
        }
        Ok(())
    }
}
