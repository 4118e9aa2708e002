//! The methods, a file each. A new one adds its file and its line in [`ALL`].

mod dynamic;
mod ema2;
mod ewc;
mod olora;
mod private;
mod replay;
mod sequential;

use super::learner::Method;

/// The methods of each file, in the order of the tables.
pub(super) const ALL: &[fn() -> Vec<Method>] = &[
    sequential::methods,
    dynamic::methods,
    ewc::methods,
    olora::methods,
    ema2::methods,
    replay::methods,
    private::methods,
];
