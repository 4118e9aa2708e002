//! Fits the cost model to samples in a file and prints what it says of machines that are not here:
//!
//! `calibrate FILE [--json] [--machines N,...] [--parameters P,...] [--compute SECONDS]`
//!
//! FILE holds one JSON object a line: `{"kind": "send_receive", "machines": 2, "bytes": 4096, "seconds": 3.1e-5}`, with kinds
//! `send_receive`, `exchange` and `add`.

use std::error::Error;
use std::str::FromStr;

use sphere_hierarchy::cost_model::{CostModel, Forecast, Sample};

const USAGE: &str = "calibrate FILE [--json] [--machines N,...] [--parameters P,...] [--compute SECONDS]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut file = None;
    let mut json = false;
    let (mut machines, mut parameters, mut compute_s) = (vec![12, 144, 1_728], vec![1_000_000, 10_000_000], 1.0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--json" => json = true,
            "--machines" => machines = list(&value()?)?,
            "--parameters" => parameters = list(&value()?)?,
            "--compute" => compute_s = value()?.parse()?,
            _ => file = Some(argument),
        }
    }
    let file = file.ok_or(USAGE)?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let samples = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| serde_json::from_str(line).map_err(|error| format!("{file}, line {}: {error}", index + 1)))
        .collect::<Result<Vec<Sample>, _>>()?;
    let fit = CostModel::fit(&samples)?;
    let forecasts: Vec<Forecast> =
        parameters.iter().map(|&parameters| fit.model.forecast(&machines, parameters, compute_s)).collect();
    if json {
        println!("{}", serde_json::json!({"fit": fit, "forecasts": forecasts}));
        return Ok(());
    }
    for link in fit.model.links() {
        let (latency_us, speed) = (link.latency_s * 1e6, speed(link.seconds_per_byte));
        println!("messages from {} bytes on: {latency_us:.1} us and {speed}", link.from_bytes);
    }
    println!("additions: {}", speed(fit.model.add_seconds_per_byte()));
    let percent = |share: f64| share * 1e2;
    println!(
        "{} samples, off by {:.1} % (root mean square), {:.1} % at worst",
        fit.residuals.len(),
        percent(fit.rms_relative_error),
        percent(fit.worst_relative_error)
    );
    forecasts.iter().for_each(|forecast| println!("\n{forecast}"));
    Ok(())
}

fn list<T: FromStr>(values: &str) -> Result<Vec<T>, T::Err> {
    values.split(',').map(str::parse).collect()
}

fn speed(seconds_per_byte: f64) -> String {
    if seconds_per_byte == 0.0 { "no time for bytes".into() } else { format!("{:.0} MB/s", 1e-6 / seconds_per_byte) }
}
