//! Rules by which a temperature follows measurements.

pub mod ema;
pub mod lam;
pub mod target_entropy;
pub mod thermodynamic_speed;

use serde::{Deserialize, Serialize};

pub use ema::{EmaConfig, StabilityUse};
use lam::Lam;
pub use lam::LamConfig;
pub use target_entropy::TargetEntropyConfig;
use thermodynamic_speed::ThermodynamicSpeed;
pub use thermodynamic_speed::ThermodynamicSpeedConfig;

use crate::error::{Error, Result};
use crate::measurement::Measurement;

/// Which rule a temperature follows, with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ControllerConfig {
    /// The moving average of the gradient; needs `gradient`.
    Ema(EmaConfig),
    /// The temperature at which a softmax has a chosen share of its largest entropy; needs `preferences` or `entropy`.
    TargetEntropy(TargetEntropyConfig),
    /// Lam and Delosme's acceptance over a run of known length; needs `acceptance`.
    Lam(LamConfig),
    /// Cooling at constant thermodynamic speed; needs `objective`.
    ThermodynamicSpeed(ThermodynamicSpeedConfig),
    /// Whatever the measurement says; needs `temperature`. For schedules and controllers of your own.
    Given,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self::Ema(EmaConfig::default())
    }
}

/// A rule and what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Controller {
    Ema(EmaConfig),
    TargetEntropy(TargetEntropyConfig),
    Lam(Lam),
    ThermodynamicSpeed(ThermodynamicSpeed),
    Given,
}

impl Controller {
    pub(crate) fn new(config: ControllerConfig) -> Result<Self> {
        Ok(match config {
            ControllerConfig::Ema(config) => {
                config.validate()?;
                Self::Ema(config)
            }
            ControllerConfig::TargetEntropy(config) => {
                config.validate()?;
                Self::TargetEntropy(config)
            }
            ControllerConfig::Lam(config) => {
                config.validate()?;
                Self::Lam(Lam::new(config))
            }
            ControllerConfig::ThermodynamicSpeed(config) => {
                config.validate()?;
                Self::ThermodynamicSpeed(ThermodynamicSpeed::new(config))
            }
            ControllerConfig::Given => Self::Given,
        })
    }

    /// Whether this is what such a controller may have become.
    pub(crate) fn belongs_to(&self, fresh: &Self) -> bool {
        match (self, fresh) {
            (Self::Ema(mine), Self::Ema(its)) => mine == its,
            (Self::TargetEntropy(mine), Self::TargetEntropy(its)) => mine == its,
            (Self::Lam(mine), Self::Lam(its)) => mine.config == its.config && mine.is_sound(),
            (Self::ThermodynamicSpeed(mine), Self::ThermodynamicSpeed(its)) => {
                mine.config == its.config && mine.is_sound()
            }
            (Self::Given, Self::Given) => true,
            _ => false,
        }
    }

    /// The next temperature. After an error the controller must not be used: its owner works on a copy.
    pub(crate) fn next(&mut self, temperature: f64, seen: &Measurement<'_>) -> Result<f64> {
        match self {
            Self::Ema(config) => config.next(temperature, seen),
            Self::TargetEntropy(config) => config.next(temperature, seen),
            Self::Lam(rule) => rule.next(temperature, seen),
            Self::ThermodynamicSpeed(rule) => rule.next(temperature, seen),
            Self::Given => need(seen.temperature, "given", "a temperature"),
        }
    }
}

pub(crate) fn need<T>(value: Option<T>, controller: &'static str, needs: &'static str) -> Result<T> {
    value.ok_or(Error::Missing { controller, needs })
}
