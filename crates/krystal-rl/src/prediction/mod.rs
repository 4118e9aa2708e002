//! Learning how much reward is to come: `V(s) = w . x(s)`.

mod batch;
mod n_step;
mod next;
mod td;
mod td_lambda;
mod tdc;
mod true_online;

pub use batch::TdBatch;
pub use n_step::{NStepConfig, NStepTd};
pub use next::Next;
pub use td::{Td, TdConfig};
pub use td_lambda::{TdLambda, TdLambdaConfig};
pub use tdc::{Tdc, TdcConfig};
pub use true_online::{TrueOnlineTd, TrueOnlineTdConfig};

pub(crate) use next::{discounted_error, judge, prepared_error};
pub(crate) use td::{set_weights, value as value_of};
pub(crate) use true_online::dutch_step;

use crate::error::{Result, require};

/// # Errors
/// [`crate::Error::Setting`] unless `0 <= x <= 1`.
pub(crate) fn require_share(name: &'static str, x: f64) -> Result<()> {
    require((0.0..=1.0).contains(&x), name, "from 0 to 1", x)
}

/// # Errors
/// [`crate::Error::Setting`] for learners without features.
pub(crate) fn require_dim(dim: usize) -> Result<()> {
    require(dim > 0, "dim", "at least 1", 0.0)?;
    require(u32::try_from(dim).is_ok(), "dim", "below 2^32", dim as f64)
}
