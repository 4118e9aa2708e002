//! What a step reports, one JSON object per line of `metrics.jsonl`.
//!
//! Names are TRL's. Every value is a number or `null` (nothing to measure), never NaN. Two runs of one seed write the same
//! lines but for [`TIMING_KEYS`]; [`strip_timing`] takes those out. As in TRL, what is measured of a generation (lengths,
//! rewards) stands on the line of the step that generated, and an evaluation (`eval_` prefix) on the line of its step.

use serde_json::{Map, Number, Value};

/// The only keys that may differ between two runs of one seed. They are there only where the caller passed a clock.
pub const TIMING_KEYS: [&str; 2] = ["step_time", "tokens_per_second"];

/// Metrics of one step, in the order they are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepMetrics {
    /// The step, the first being 1; 0 for an evaluation before it.
    pub step: u64,
    values: Vec<(String, Option<f64>)>,
}

impl StepMetrics {
    /// No metrics yet.
    pub fn new(step: u64) -> Self {
        Self { step, values: Vec::new() }
    }

    /// Adds a metric; a value that is not finite is recorded as nothing.
    pub fn push(&mut self, name: impl Into<String>, value: Option<f64>) {
        self.values.push((name.into(), value.filter(|x| x.is_finite())));
    }

    /// A metric by name; `None` where it is missing or nothing was measured.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(n, _)| n == name)?.1
    }

    /// Every metric in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<f64>)> {
        self.values.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// One line of `metrics.jsonl`, without the line break.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        object.insert("step".into(), self.step.into());
        for (name, value) in &self.values {
            object.insert(name.clone(), number(*value));
        }
        Value::Object(object).to_string()
    }
}

/// A JSON number, or null for nothing and for what is not finite.
pub(crate) fn number(value: Option<f64>) -> Value {
    value.and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}

/// One line of `events.jsonl`, without the line break.
pub(crate) fn event_line(step: u64, event: Map<String, Value>) -> String {
    let step = [("step".to_owned(), step.into())];
    Value::Object(step.into_iter().chain(event).collect()).to_string()
}

/// A line of `metrics.jsonl` without [`TIMING_KEYS`]; a line that is no JSON object comes back as it is.
pub fn strip_timing(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Value::Object(mut object)) => {
            object.retain(|key, _| !TIMING_KEYS.contains(&key.as_str()));
            Value::Object(object).to_string()
        }
        _ => line.to_string(),
    }
}

/// Means over the batches of a step, in the order in which names first came.
#[derive(Debug, Default)]
pub(crate) struct BatchMeans {
    sums: Vec<(String, f64, f64)>,
}

impl BatchMeans {
    pub(crate) fn add<'a>(&mut self, named: impl IntoIterator<Item = (&'a str, Option<f64>)>) {
        for (name, value) in named {
            let i = self.sums.iter().position(|(n, ..)| n == name).unwrap_or_else(|| {
                self.sums.push((name.to_string(), 0.0, 0.0));
                self.sums.len() - 1
            });
            if let Some(value) = value {
                self.sums[i].1 += value;
                self.sums[i].2 += 1.0;
            }
        }
    }

    pub(crate) fn push_to(&self, metrics: &mut StepMetrics) {
        for (name, sum, n) in &self.sums {
            metrics.push(name.as_str(), (*n > 0.0).then(|| sum / n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_null_and_never_nan() {
        let mut metrics = StepMetrics::new(3);
        metrics.push("loss", Some(0.5));
        metrics.push("kl", None);
        metrics.push("entropy", Some(f64::NAN));
        assert_eq!(metrics.to_json(), r#"{"step":3,"loss":0.5,"kl":null,"entropy":null}"#);
        assert_eq!((metrics.get("loss"), metrics.get("kl"), metrics.get("other")), (Some(0.5), None, None));
    }

    #[test]
    fn only_timing_is_stripped() {
        let line = r#"{"step":1,"loss":0.5,"step_time":1.25,"tokens_per_second":80.0}"#;
        assert_eq!(strip_timing(line), r#"{"step":1,"loss":0.5}"#);
        assert_eq!(strip_timing("cut sho"), "cut sho");
    }

    #[test]
    fn means_skip_batches_with_nothing() {
        let mut means = BatchMeans::default();
        means.add(vec![("a", Some(1.0)), ("b", None)]);
        means.add(vec![("a", Some(3.0)), ("b", None)]);
        let mut metrics = StepMetrics::new(1);
        means.push_to(&mut metrics);
        assert_eq!(metrics.to_json(), r#"{"step":1,"a":2.0,"b":null}"#);
    }
}
