//! What a caller may change about a step.

use std::fmt;

/// Turns the change of a channel's row of `A` before it is applied: module, channel, and the row `(d_in)` that will be
/// subtracted.
pub type ProjectRow<'a> = dyn Fn(usize, usize, &mut [f32]) + Sync + 'a;

/// Turns the changes of all rows of `B^T` of a module `(r, d_out)` together, before they are applied.
pub type MixRows<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// Guides a step of a layer. The default changes nothing and costs nothing.
#[derive(Clone, Copy, Default)]
pub struct StepGuide<'a> {
    /// Factor on the learning rate of each channel, modules one after another; empty for 1.
    pub channel_rates: &'a [f32],
    /// Turns the change of each row of `A`, for example out of a subspace that is to be kept.
    pub project_a: Option<&'a ProjectRow<'a>>,
    /// Mixes the changes of a module's rows of `B^T`, for example so that channels which read alike move less.
    pub mix_b: Option<&'a MixRows<'a>>,
}

impl fmt::Debug for StepGuide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepGuide")
            .field("channel_rates", &self.channel_rates)
            .field("project_a", &self.project_a.map(|_| "fn"))
            .field("mix_b", &self.mix_b.map(|_| "fn"))
            .finish()
    }
}
