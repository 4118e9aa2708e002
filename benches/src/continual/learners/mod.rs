//! The methods, a file each. A new one adds its file and its line in [`ALL`].

mod sequential;

use super::learner::Method;

/// The methods of each file.
pub(super) const ALL: &[fn() -> Vec<Method>] = &[sequential::methods];
