//! One step of the optimiser, with the checks that it did something.

use krystal_math::statistics::sum;

use crate::error::Error;
use crate::metrics::event_line;
use crate::optimizer::{AdamW, AdamWSettings, LrSchedule, clip_gradients, gradient_norm};
use crate::policy::{OwnStep, Policy, StepRequest};

/// Optimiser, schedule and clipping of a run.
#[derive(Debug)]
pub(crate) struct Updater {
    pub(crate) adamw: AdamW<f32>,
    pub(crate) schedule: LrSchedule,
    pub(crate) max_grad_norm: f64,
}

/// What a step did.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    /// Norm of the gradient before clipping.
    pub(crate) grad_norm: f64,
    pub(crate) learning_rate: f64,
    /// Norm of the change of the values.
    pub(crate) update_norm: f64,
    /// What a policy that moves itself adds.
    pub(crate) metrics: Vec<(String, f64)>,
    /// Lines of `events.jsonl`.
    pub(crate) events: Vec<String>,
}

impl Updater {
    /// An updater for the policy's parameters.
    ///
    /// # Errors
    /// [`Error::NoTrainableParameters`] where it has none.
    pub(crate) fn new<P: Policy>(
        policy: &mut P,
        settings: AdamWSettings,
        schedule: LrSchedule,
        max_grad_norm: f64,
    ) -> Result<Self, Error> {
        let lengths: Vec<usize> = policy.parameters().iter().map(|p| p.values.len()).collect();
        if lengths.iter().all(|&n| n == 0) && !policy.moves_itself() {
            return Err(Error::NoTrainableParameters);
        }
        Ok(Self { adamw: AdamW::new(settings, lengths), schedule, max_grad_norm })
    }

    /// Clips the accumulated gradients, takes step number `step` (the first being 1), clears the gradients and publishes.
    ///
    /// `expects_gradient` says whether any weight handed to the policy since the last step was not zero.
    pub(crate) fn apply<P: Policy>(
        &mut self,
        policy: &mut P,
        step: u64,
        expects_gradient: bool,
    ) -> Result<Update, Error> {
        let learning_rate = self.schedule.at(step - 1);
        if policy.moves_itself() {
            return self.own_step(policy, step, learning_rate, expects_gradient);
        }
        let mut parameters = policy.parameters();
        if let Some(p) = parameters.iter().find(|p| p.gradient.iter().any(|g| !g.is_finite())) {
            return Err(Error::NonFiniteGradient { step, parameter: p.name.to_string() });
        }
        let mut gradients: Vec<&mut [f32]> = parameters.iter_mut().map(|p| &mut *p.gradient).collect();
        let grad_norm = if self.max_grad_norm > 0.0 {
            clip_gradients(&mut gradients, self.max_grad_norm)
        } else {
            gradient_norm(&gradients)
        };
        if expects_gradient && grad_norm == 0.0 {
            return Err(Error::GradientMissing { step });
        }
        let coefficients = self.adamw.begin_step(learning_rate);
        let mut squares = Vec::with_capacity(parameters.len());
        for (i, parameter) in parameters.iter_mut().enumerate() {
            // One tensor's copy at a time: a second copy of all weights would double the memory of full fine-tuning.
            let before = parameter.values.to_vec();
            self.adamw.step_tensor(i, parameter.values, parameter.gradient, &coefficients);
            let change = parameter.values.iter().zip(&before);
            squares.push(sum(change.map(|(new, old)| (f64::from(*new) - f64::from(*old)).powi(2))));
        }
        let update_norm = sum(squares).sqrt();
        if update_norm == 0.0 && learning_rate > 0.0 && grad_norm > 0.0 {
            return Err(Error::AdapterUnchanged { step, learning_rate, grad_norm });
        }
        for parameter in &mut parameters {
            parameter.gradient.fill(0.0);
        }
        drop(parameters);
        policy.publish().map_err(Error::policy("publish its parameters"))?;
        Ok(Update { grad_norm, learning_rate, update_norm, metrics: Vec::new(), events: Vec::new() })
    }

    /// The step of a policy that moves itself, with the same checks.
    fn own_step<P: Policy>(
        &self,
        policy: &mut P,
        step: u64,
        learning_rate: f64,
        expects_gradient: bool,
    ) -> Result<Update, Error> {
        let request = StepRequest { step, learning_rate, max_grad_norm: self.max_grad_norm };
        let own = policy.step(&request).map_err(Error::policy("take its step"))?;
        let OwnStep { grad_norm, update_norm, metrics, events } = own;
        if expects_gradient && grad_norm == 0.0 {
            return Err(Error::GradientMissing { step });
        }
        if update_norm == 0.0 && learning_rate > 0.0 && grad_norm > 0.0 {
            return Err(Error::AdapterUnchanged { step, learning_rate, grad_norm });
        }
        let events = events.into_iter().map(|event| event_line(step, event)).collect();
        Ok(Update { grad_norm, learning_rate, update_norm, metrics, events })
    }
}

/// Clears every gradient: whatever the policy was used for before does not belong to this run.
pub(crate) fn clear_gradients<P: Policy>(policy: &mut P) {
    for parameter in policy.parameters() {
        parameter.gradient.fill(0.0);
    }
}
