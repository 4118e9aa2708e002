//! The moving average of the gradient.

use serde::{Deserialize, Serialize};

use super::need;
use crate::error::{Result, setting};
use crate::measurement::Measurement;

/// What becomes of a measured stability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StabilityUse {
    /// Cooling is multiplied by it, heating is not: what still fluctuates is not frozen in. As near a critical point, where
    /// fluctuations are large and a system that is cooled faster than they decay falls out of equilibrium.
    #[default]
    SlowsCooling,
    /// Nothing: the code of the KrystalSDK document takes the number and does not use it.
    Ignored,
}

/// `T <- T + (1 - decay) s (g - T)`: the temperature follows the gradient `g`.
///
/// `s` is 1 while heating (`g > T`) and the stability `1 / (1 + variance)` while cooling, 1 if none is measured. With `s = 1` this is
/// the rule of the KrystalSDK document, section 2.3: `T <- 0.9 T + 0.1 g`, whose fixed point is `g` and whose memory is
/// `1 / (1 - decay)` ticks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// What a tick keeps of the temperature, at least 0 and below 1; default 0.9.
    pub decay: f64,
    /// What becomes of the stability.
    pub stability: StabilityUse,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.9, stability: StabilityUse::default() }
    }
}

impl EmaConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        setting((0.0..1.0).contains(&self.decay), "ema.decay", "at least 0 and below 1", self.decay)
    }

    pub(crate) fn next(&self, temperature: f64, seen: &Measurement<'_>) -> Result<f64> {
        let gradient = need(seen.gradient, "ema", "a gradient")?;
        let decay = match (self.stability, seen.stability) {
            (StabilityUse::SlowsCooling, Some(stability)) if gradient < temperature => {
                1.0 - (1.0 - self.decay) * stability
            }
            _ => self.decay,
        };
        Ok(decay * temperature + (1.0 - decay) * gradient)
    }
}
