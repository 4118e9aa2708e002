//! Critical phenomena, measured: with error bars, and with a refusal where the data do not support the claim.
//!
//! Fluctuations ([`susceptibility`], [`heat_capacity`], [`binder`]) come with blocked jackknife errors, so that correlated samples do not
//! pass for independent ones; [`integrated_time`] says how correlated they are. [`scaling_exponent`] and [`crossing`] compare system
//! sizes, [`diagnose`] weighs it all. [`hysteresis`] and [`bimodality`] tell transitions of first order. [`PowerLaw`] fits
//! heavy tails and tests them against their rivals.
//!
//! `N` is the number of sites, `m` an order parameter per site, `T` the temperature, `L` a linear size.

mod autocorrelation;
mod bimodality;
mod diagnosis;
mod fluctuations;
mod hysteresis;
mod jackknife;
mod power_law;
mod rivals;
mod scaling;
mod special;

pub use autocorrelation::{IntegratedTime, integrated_time};
pub use bimodality::{Bimodality, bimodality};
pub use diagnosis::{Diagnosis, Finding, SizedSeries, Verdict, diagnose};
pub use fluctuations::{binder, heat_capacity, mean_absolute, susceptibility};
pub use hysteresis::{Hysteresis, hysteresis};
pub use jackknife::{Estimate, jackknife};
pub use power_law::{PowerLaw, PowerLawConfig, Sizes, TailVerdict};
pub use rivals::Comparison;
pub use scaling::{ScalingFit, crossing, scaling_exponent};

use crate::error::{Error, Result};

/// Finite numbers, and enough of them.
fn check(values: &[f64], what: &'static str, at_least: usize) -> Result<()> {
    if let Some(index) = values.iter().position(|x| !x.is_finite()) {
        return Err(Error::NotFinite { what, index });
    }
    if values.len() < at_least {
        return Err(Error::TooFew { what, needed: at_least, found: values.len() });
    }
    Ok(())
}
