//! What is predicted, for which machines.

use clap::Args;
use krystal::spheres::cost_model::{CostModel, Forecast};
use serde::Serialize;

use crate::failure::usage;

/// What a prediction is about.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Prediction")]
pub(crate) struct ForecastOptions {
    /// Machines
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [12, 144, 1_728])]
    machines: Vec<usize>,
    /// Parameters of the gradient, 4 bytes each
    #[arg(long, value_name = "P,..", value_delimiter = ',', default_values_t = [1_000_000, 10_000_000])]
    parameters: Vec<u64>,
    /// Seconds that one machine computes on all of a step; many machines divide it, and then add up
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    compute_seconds: f64,
}

impl ForecastOptions {
    /// Refuses what cannot be predicted.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        let seconds = self.compute_seconds;
        if !(seconds.is_finite() && seconds > 0.0) {
            return Err(usage(format!("--compute-seconds must be a finite number above 0, not {seconds}")));
        }
        if self.machines.contains(&0) {
            return Err(usage("--machines must be at least 1"));
        }
        Ok(())
    }

    /// What the model says, for each number of parameters.
    pub(crate) fn forecasts(&self, model: &CostModel) -> Vec<Forecast> {
        let forecast = |&parameters: &u64| model.forecast(&self.machines, parameters, self.compute_seconds);
        self.parameters.iter().map(forecast).collect()
    }
}
