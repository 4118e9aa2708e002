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
    /// Sum over rows of the inputs of the module that reads first, `(d_in)`; empty where it was not measured.
    pub input_sum: Vec<f32>,
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

    /// Adds a further batch of the same agent, laid out alike: gradients and sketches add up, what was measured is pooled where
    /// it was measured in both, and the sum is as old as the older of the two.
    pub fn add(&mut self, other: &Self) {
        self.version = self.version.min(other.version);
        self.levels.iter_mut().zip(&other.levels).for_each(|(to, from)| add(to, from));
        add(&mut self.sketch, &other.sketch);
        if let (Some(to), Some(from)) = (&mut self.activity, &other.activity) {
            to.add(from);
        }
    }

    /// Multiplies gradients and sketch; what was measured of the channels stays.
    pub fn scale(&mut self, factor: f32) {
        let values = self.levels.iter_mut().chain([&mut self.sketch]).flatten();
        values.for_each(|value| *value *= factor);
    }

    /// Sum of the squares of all layers' gradients.
    pub fn squared_norm(&self) -> f64 {
        let square = |level: &Vec<f32>| level.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
        self.levels.iter().map(square).sum()
    }

    /// The norm of several agents' gradients: the root of the mean over them of the squared norm; 0 for none.
    pub fn mean_norm<'g>(gradients: impl IntoIterator<Item = &'g Self>) -> f64 {
        let (mut squares, mut n) = (0.0, 0.0);
        for gradient in gradients {
            squares += gradient.squared_norm();
            n += 1.0;
        }
        if n > 0.0 { (squares / n).sqrt() } else { 0.0 }
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        let modules = self.activity.iter().flat_map(|activity| &activity.modules);
        self.levels.iter().all(|level| finite(level))
            && finite(&self.sketch)
            && self.activity.iter().all(|activity| finite(&activity.input_sum))
            && modules.into_iter().all(|module| finite(&module.second_moment) && finite(&module.inputs))
    }
}

impl StackActivity {
    /// Pools what two passes saw. Inputs that are signed sums carry signs of their own: they are further rows of one sketch.
    fn add(&mut self, other: &Self) {
        self.n_rows = self.n_rows.saturating_add(other.n_rows);
        add(&mut self.input_sum, &other.input_sum);
        for (to, from) in self.modules.iter_mut().zip(&other.modules) {
            add(&mut to.second_moment, &from.second_moment);
            to.inputs.extend_from_slice(&from.inputs);
        }
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(version: u64, value: f32) -> StackGradient {
        let module = ModuleActivity { second_moment: vec![value; 4], inputs: vec![value; 2] };
        StackGradient {
            agent: AgentId(7),
            version,
            levels: [vec![value], vec![], vec![-value, value], vec![2.0 * value], vec![0.0]],
            activity: Some(StackActivity { n_rows: 3, input_sum: vec![value], modules: vec![module] }),
            sketch: vec![value, 0.5],
        }
    }

    #[test]
    fn a_sum_has_the_values_of_both_and_what_both_saw() {
        let mut sum = gradient(9, 1.0);
        sum.add(&gradient(4, 2.0));
        assert_eq!(sum.version, 4);
        assert_eq!(sum.levels, [vec![3.0], vec![], vec![-3.0, 3.0], vec![6.0], vec![0.0]]);
        assert_eq!(sum.sketch, [3.0, 1.0]);
        let module = ModuleActivity { second_moment: vec![3.0; 4], inputs: vec![1.0, 1.0, 2.0, 2.0] };
        let pooled = StackActivity { n_rows: 6, input_sum: vec![3.0], modules: vec![module] };
        assert_eq!(sum.activity, Some(pooled));

        let before = sum.activity.clone();
        sum.add(&StackGradient { activity: None, ..gradient(5, 0.0) });
        assert_eq!((sum.version, &sum.activity), (4, &before));
    }

    #[test]
    fn a_multiple_has_the_same_activity() {
        let mut half = gradient(1, 2.0);
        half.scale(0.5);
        assert_eq!(half.levels, gradient(1, 1.0).levels);
        assert_eq!(half.sketch, [1.0, 0.25]);
        assert_eq!(half.activity, gradient(1, 2.0).activity);
    }

    #[test]
    fn the_norm_is_that_of_the_layers_in_double_precision() {
        assert_eq!(gradient(1, 3.0).squared_norm(), 9.0 * 7.0);
        assert!(gradient(1, 1e30).squared_norm().is_finite());
        assert_eq!(
            StackGradient::mean_norm([&gradient(1, 3.0), &gradient(1, 1.0)]),
            (7.0 * (9.0_f64 + 1.0) / 2.0).sqrt()
        );
        assert_eq!(StackGradient::mean_norm([]), 0.0);
    }
}
