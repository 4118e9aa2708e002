//! The numbers of a run: a line each for people, one flat JSON object for programs.

use serde_json::{Map, Number, Value};

use crate::Options;

/// Numbers by name, in the order they were recorded.
#[derive(Debug, Clone, Default)]
pub struct Report {
    numbers: Map<String, Value>,
}

impl Report {
    /// Prints `name`, `value` and `unit`, and keeps the value for the closing object.
    ///
    /// # Errors
    /// If `value` is not finite, which JSON cannot say.
    pub fn record(&mut self, name: &str, value: f64, unit: &str) -> anyhow::Result<()> {
        let number = Number::from_f64(value).ok_or_else(|| anyhow::anyhow!("`{name}` is {value}"))?;
        println!("{name:<40} {value:>12.4} {unit}");
        self.numbers.insert(name.to_owned(), Value::Number(number));
        Ok(())
    }

    /// Ends the run: with `--json`, prints the object.
    pub fn close(self, options: &Options) {
        if options.json {
            println!("{}", Value::Object(self.numbers));
        }
    }
}

/// The middle value, the mean of the two middle ones for an even count; NaN for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn a_number_that_json_cannot_say_is_refused() {
        assert!(Report::default().record("x", f64::NAN, "s").is_err());
    }
}
