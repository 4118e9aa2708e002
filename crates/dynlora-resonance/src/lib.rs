#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod consensus;
mod engine;
mod error;
mod history;
mod horizontal;
mod null_calibration;
mod universality;
mod vertical;
mod voices;

pub use consensus::debiased_resultant;
pub use engine::{ResonanceConfig, ResonanceEngine};
pub use error::Error;
pub use horizontal::{HorizontalConfig, HorizontalMode, HorizontalResonance, aggregate};
pub use null_calibration::NullCalibration;
pub use universality::{consolidation_pressure, universality};
pub use vertical::{VerticalConfig, VerticalMode, VerticalResonance};
