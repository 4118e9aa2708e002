//! What a backward pass brings to the hierarchy.

use crate::{AgentId, Level};

/// Gradients of all five layers for one agent, from one backward pass over its snapshot.
///
/// Within a level, values are flat in the order of the hierarchy's modules: for each module the gradient of `A`
/// `(r, d_in)`, then that of `B^T` `(r, d_out)`. They are `dL/dtheta`: the hierarchy descends.
#[derive(Debug, Clone, PartialEq)]
pub struct StackGradient {
    /// Whose data it comes from.
    pub agent: AgentId,
    /// Version of the snapshot it was computed on ([`Snapshot::version`](crate::Snapshot::version)).
    pub version: u64,
    /// Flat gradients by [`Level::index`].
    pub levels: [Vec<f32>; 5],
    /// What the pass saw of the channels; absent where the backend does not measure.
    pub activity: Option<StackActivity>,
    /// Sketch of `dL/dW` of all modules, the same space for every level; empty where the backend does not measure.
    pub sketch: Vec<f32>,
}

/// What a forward and backward pass saw, per module of the hierarchy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StackActivity {
    /// Rows (tokens) seen.
    pub n_rows: u64,
    /// Per module.
    pub modules: Vec<ModuleActivity>,
}

/// What a pass saw of one module. `R` is the rank of the whole stack, channels in the order of [`Level::ALL`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModuleActivity {
    /// Sum over rows of `h h^T` with `h = A x`, `(R, R)`, row-major.
    pub second_moment: Vec<f32>,
    /// Some of the rows of `x`, `(s, d_in)`, row-major.
    pub inputs: Vec<f32>,
}

impl StackGradient {
    /// The flat gradient of a level.
    pub fn level(&self, level: Level) -> &[f32] {
        &self.levels[level.index()]
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        let modules = self.activity.iter().flat_map(|activity| &activity.modules);
        self.levels.iter().all(|level| finite(level))
            && finite(&self.sketch)
            && modules.into_iter().all(|module| finite(&module.second_moment) && finite(&module.inputs))
    }
}
