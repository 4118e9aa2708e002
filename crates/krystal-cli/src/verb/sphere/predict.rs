//! `krystal sphere predict`: machines that are not here, from the data sheet of their wire.

use clap::Args;
use krystal::spheres::cost_model::CostModel;
use serde::Serialize;
use serde_json::json;

use super::forecast::ForecastOptions;
use crate::failure::usage;
use crate::terminal::Terminal;

/// Flags of `krystal sphere predict`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal sphere predict --latency 30e-6 --bandwidth 3.1e9
      twenty-five gigabit Ethernet
  krystal sphere predict --latency 50e-6 --bandwidth 1.2e8 --machines 4,8 --parameters 7000000 --compute-seconds 3

What it prints is a model, not a measurement: whole gradients up a tree beside exclusive segments, rings and doubling. With --json
the line is {\"model\": {..}, \"forecasts\": [{\"predictions\": [..], \"crossovers\": [..]}, ..]}.")]
pub(crate) struct Options {
    /// Seconds of a message without content
    #[arg(long, value_name = "S")]
    latency: f64,
    /// Bytes a second between two machines
    #[arg(long, value_name = "B")]
    bandwidth: f64,
    /// Bytes a second of gradients that a machine adds to another
    #[arg(long, value_name = "B", default_value_t = 15e9)]
    add_bandwidth: f64,
    #[command(flatten)]
    #[serde(flatten)]
    forecast: ForecastOptions,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    options.forecast.validate()?;
    let positive = |name: &str, value: f64| {
        if value > 0.0 { Ok(value) } else { Err(usage(format!("--{name} must be above 0, not {value}"))) }
    };
    let bandwidth = positive("bandwidth", options.bandwidth)?;
    let add_bandwidth = positive("add-bandwidth", options.add_bandwidth)?;
    if !(options.latency.is_finite() && options.latency >= 0.0) {
        return Err(usage(format!("--latency must be a finite number of at least 0, not {}", options.latency)));
    }
    let model = CostModel::new(options.latency, bandwidth.recip(), add_bandwidth.recip())?;
    let forecasts = options.forecast.forecasts(&model);
    forecasts.iter().for_each(|forecast| terminal.line(&forecast.to_string()));
    terminal.json(&json!({ "model": model, "forecasts": forecasts }));
    Ok(())
}
