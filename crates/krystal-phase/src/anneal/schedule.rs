//! Who decides the temperature.

use serde::{Deserialize, Serialize};

use crate::error::{Result, setting};
use crate::measurement::Measurement;
use crate::phase_controller::PhaseController;

/// What happened in one block of moves at one temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// The temperature.
    pub temperature: f64,
    /// The share of moves that were accepted.
    pub acceptance: f64,
    /// The mean of the energy after each move.
    pub mean_energy: f64,
    /// Its variance; over `T^2` the heat capacity.
    pub variance: f64,
    /// The energy at the end.
    pub energy: f64,
    /// The lowest energy of the block.
    pub lowest: f64,
}

/// A temperature for each block of moves.
pub trait Schedule {
    /// The temperature of the block to come, at least 0.
    fn temperature(&self) -> f64;

    /// Takes what happened at that temperature.
    ///
    /// # Errors
    /// What the schedule cannot go on from.
    fn tick(&mut self, block: &Block) -> Result<()>;
}

/// From hot to cold by the same factor each block: `T_k = T_0 (T_end / T_0)^(k / (n - 1))`; afterwards `T_end`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Geometric {
    hot: f64,
    cold: f64,
    n_blocks: u64,
    block: u64,
}

impl Geometric {
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless `hot >= cold > 0` are finite and there is a block.
    pub fn new(hot: f64, cold: f64, n_blocks: u64) -> Result<Self> {
        check_range(hot, cold)?;
        setting(n_blocks >= 1, "n_blocks", "at least 1", n_blocks as f64)?;
        Ok(Self { hot, cold, n_blocks, block: 0 })
    }
}

pub(super) fn check_range(hot: f64, cold: f64) -> Result<()> {
    setting(cold > 0.0 && cold.is_finite(), "cold", "above 0 and finite", cold)?;
    setting(hot >= cold && hot.is_finite(), "hot", "at least cold and finite", hot)
}

impl Schedule for Geometric {
    fn temperature(&self) -> f64 {
        let last = self.n_blocks.saturating_sub(1).max(1);
        self.hot * (self.cold / self.hot).powf(self.block.min(last) as f64 / last as f64)
    }

    fn tick(&mut self, _: &Block) -> Result<()> {
        self.block += 1;
        Ok(())
    }
}

/// Any controller of this crate anneals: it is told the acceptance, and the mean energy as the objective.
impl Schedule for PhaseController {
    fn temperature(&self) -> f64 {
        PhaseController::temperature(self)
    }

    fn tick(&mut self, block: &Block) -> Result<()> {
        let seen = Measurement {
            objective: Some(block.mean_energy),
            acceptance: Some(block.acceptance),
            ..Measurement::default()
        };
        PhaseController::tick(self, &seen).map(|_| ())
    }
}
