//! A contextual learner that chooses.

use anyhow::Context;
use krystal::math::rng::{Purpose, SplitMix64};
use krystal::rl::{ActionValues, ActionValuesConfig, Next, StepSize, Ties, epsilon_greedy};

/// Chooses by linear action values of the question's features (`krystal_rl::ActionValues`; each question is an episode of one step), with
/// a share of random choices that vanishes as `n / (n + t)` for `n` models and `t` choices: about `n ln t` of them in all. A model that
/// was not tried yet counts as right, so each is tried wherever it may be good; worth is expected to be 1 at most.
///
/// Every draw is addressed by the seed and the number of the choice.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    values: ActionValues<f64>,
    draws: SplitMix64,
    chosen: u64,
    scratch: Vec<f64>,
}

impl Router {
    /// A router that knows nothing of `n_models` models and sees `dim` features, the first of which is 1.
    pub(crate) fn new(n_models: usize, dim: usize, seed: u64) -> anyhow::Result<Self> {
        // Compared on simulated tables of 100 to 1,000 questions. Without the 1 for what was not tried, one run in ten stays with the
        // wrong model.
        let step_size = StepSize::RobbinsMonro { alpha: 0.3, half_life: 200.0, power: 1.0 };
        let config = ActionValuesConfig { gamma: 0.0, step_size, ..ActionValuesConfig::default() };
        let mut values = ActionValues::new(dim, n_models, config).context("the router cannot be made")?;
        let first: Vec<f64> = (0..dim * n_models).map(|i| if i.is_multiple_of(dim) { 1.0 } else { 0.0 }).collect();
        values.set_weights(&first)?;
        Ok(Self {
            values,
            draws: SplitMix64::stream(seed, Purpose::Exploration, 0, 0),
            chosen: 0,
            scratch: vec![0.0; n_models],
        })
    }

    /// The model for a question.
    pub(crate) fn choose(&mut self, features: &[f64]) -> anyhow::Result<usize> {
        self.values.values(features, &mut self.scratch)?;
        let n = self.scratch.len() as f64;
        let epsilon = n / (n + self.chosen as f64);
        // Room for more draws than a choice takes.
        let mut rng = self.draws.after(8 * self.chosen);
        self.chosen += 1;
        Ok(epsilon_greedy(&self.scratch, epsilon, Ties::Random, &mut rng)?)
    }

    /// Learns what a choice was worth.
    pub(crate) fn learn(&mut self, features: &[f64], model: usize, worth: f64) -> anyhow::Result<()> {
        self.values.q_learning(features, model, worth.clamp(-1.0, 1.0), Next::Terminated)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_features_tell_is_learned() {
        // The first model is right where the feature is 1, the second where it is 0.
        let mut late = 0;
        let mut router = Router::new(2, 2, 5).unwrap();
        for t in 0..400_u64 {
            let kind = t * 7 % 2;
            let features = [1.0, kind as f64];
            let model = router.choose(&features).unwrap();
            let right = model as u64 != kind;
            late += usize::from(t >= 200 && right);
            router.learn(&features, model, if right { 1.0 } else { 0.0 }).unwrap();
        }
        assert!(late > 185, "{late} of 200");
    }
}
