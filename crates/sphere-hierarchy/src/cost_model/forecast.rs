//! What a model says of machines that are not here.

use std::fmt;

use serde::Serialize;

use super::{Algorithm, CostModel};

/// One algorithm on so many machines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prediction {
    /// Machines.
    pub machines: usize,
    /// How they add up.
    pub algorithm: Algorithm,
    /// Seconds until all know the sum.
    pub seconds: f64,
    /// How many times sooner a step is done than on one machine.
    pub speedup: f64,
}

/// Where dividing a gradient begins to beat sending it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Crossover {
    /// Machines.
    pub machines: usize,
    /// Bytes from which on [`Algorithm::Segments`] is no slower than [`Algorithm::RecursiveDoubling`]; none below a tebibyte.
    pub bytes: Option<u64>,
}

/// Predictions for one gradient and one step; printed, a table that says it is no measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Numbers (f32) of the gradient.
    pub parameters: u64,
    /// Seconds that one machine computes in a step, all of which the machines divide.
    pub compute_s: f64,
    /// By machines, then in the order of [`Algorithm::ALL`].
    pub predictions: Vec<Prediction>,
    /// By machines, where there are several.
    pub crossovers: Vec<Crossover>,
}

impl CostModel {
    /// All algorithms on each of these numbers of machines.
    pub fn forecast(&self, machines: &[usize], parameters: u64, compute_s: f64) -> Forecast {
        let bytes = parameters.saturating_mul(size_of::<f32>() as u64);
        let prediction = |machines: usize, algorithm| Prediction {
            machines,
            algorithm,
            seconds: self.seconds(algorithm, machines, bytes),
            speedup: self.speedup(algorithm, machines, bytes, compute_s),
        };
        let crossover = |&machines: &usize| Crossover {
            machines,
            bytes: self.crossover_bytes(Algorithm::RecursiveDoubling, Algorithm::Segments, machines),
        };
        Forecast {
            parameters,
            compute_s,
            predictions: machines
                .iter()
                .flat_map(|&machines| Algorithm::ALL.map(|algorithm| prediction(machines, algorithm)))
                .collect(),
            crossovers: machines.iter().filter(|&&machines| machines > 1).map(crossover).collect(),
        }
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters, compute_s, predictions, crossovers } = self;
        writeln!(f, "A model, not a measurement: {parameters} f32 after a step of {compute_s} s on one machine.")?;
        writeln!(f, "{:>8}  {:<18}  {:>12}  {:>8}", "machines", "algorithm", "ms", "speed-up")?;
        for Prediction { machines, algorithm, seconds, speedup } in predictions {
            writeln!(f, "{machines:>8}  {:<18}  {:>12.3}  {speedup:>8.2}", algorithm.name(), seconds * 1e3)?;
        }
        for Crossover { machines, bytes } in crossovers {
            match bytes {
                Some(bytes) => {
                    writeln!(f, "{machines} machines: segments beat recursive doubling from {bytes} bytes on")?
                }
                None => writeln!(f, "{machines} machines: recursive doubling beats segments at any size")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_is_the_model_and_says_so() {
        let model = CostModel::new(30e-6, 1.0 / 3.1e9, 1.0 / 15e9).unwrap();
        let forecast = model.forecast(&[1, 12], 10_000_000, 2.0);
        assert_eq!(forecast.predictions.len(), 2 * Algorithm::ALL.len());
        assert!(forecast.predictions[..7].iter().all(|p| (p.seconds, p.speedup) == (0.0, 1.0)));
        let segments = forecast.predictions[8];
        assert_eq!((segments.machines, segments.algorithm), (12, Algorithm::Segments));
        assert_eq!(segments.seconds, model.seconds(Algorithm::Segments, 12, 40_000_000));
        let [crossover] = forecast.crossovers[..] else { panic!("{:?}", forecast.crossovers) };
        assert_eq!(crossover.bytes, model.crossover_bytes(Algorithm::RecursiveDoubling, Algorithm::Segments, 12));
        let text = forecast.to_string();
        assert!(text.starts_with("A model, not a measurement: 10000000 f32"), "{text}");
        assert!(text.contains("      12  segments                  26.760     10.34\n"), "{text}");
        let json = serde_json::to_value(&forecast).unwrap();
        assert_eq!(json["predictions"][8]["algorithm"], Algorithm::Segments.name());
        let overflowing = model.forecast(&[2], u64::MAX, 1.0);
        assert!(overflowing.predictions.iter().all(|p| p.seconds.is_finite()));
    }

    #[test]
    fn names_are_those_of_the_json() {
        for algorithm in Algorithm::ALL {
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name());
        }
    }
}
