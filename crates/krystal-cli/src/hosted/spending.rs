//! What answers cost.

use serde_json::{Map, Value, json};

use super::Answer;

/// Tokens and money of answers, counted as they come.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Spending {
    pub(crate) answers: usize,
    pub(crate) input_tokens: u64,
    pub(crate) cached_input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// Of the answers whose price is known.
    pub(crate) cost_usd: f64,
    /// Answers whose price is not.
    pub(crate) unpriced: usize,
}

impl Spending {
    /// Adds an answer.
    pub(crate) fn add(&mut self, answer: &Answer) {
        self.answers += 1;
        self.input_tokens += answer.input_tokens.unwrap_or(0);
        self.cached_input_tokens += answer.cached_input_tokens.unwrap_or(0);
        self.output_tokens += answer.output_tokens.unwrap_or(0);
        self.cost_usd += answer.cost_usd.unwrap_or(0.0);
        self.unpriced += usize::from(answer.cost_usd.is_none());
    }

    /// All in one line.
    pub(crate) fn text(&self) -> String {
        let cached = match self.cached_input_tokens {
            0 => String::new(),
            cached => format!(" ({cached} cached)"),
        };
        let cost = self.cost().map_or_else(String::new, |cost| format!(", {}", dollars(cost)));
        format!("{}{cached} in, {} out{cost}", self.input_tokens, self.output_tokens)
    }

    /// The cost, where every answer's is known.
    pub(crate) fn cost(&self) -> Option<f64> {
        (self.unpriced == 0 && self.answers > 0).then_some(self.cost_usd)
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let fields = [
            ("input_tokens", json!(self.input_tokens)),
            ("cached_input_tokens", json!(self.cached_input_tokens)),
            ("output_tokens", json!(self.output_tokens)),
            ("cost_usd", json!(self.cost())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Money as people read it: at least two digits that are not 0.
pub(crate) fn dollars(amount: f64) -> String {
    let digits = if amount > 0.0 { (1.0 - amount.log10().floor()).clamp(2.0, 8.0) as usize } else { 2 };
    format!("${amount:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_readable() {
        for (amount, text) in
            [(0.0, "$0.00"), (12.345, "$12.35"), (0.5, "$0.50"), (0.012_34, "$0.012"), (0.000_001_26, "$0.0000013")]
        {
            assert_eq!(dollars(amount), text);
        }
    }
}
