//! What tokens cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::response::Usage;

/// What a model's tokens cost, in US dollars per million.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens of the prompt.
    pub input: f64,
    /// Tokens of the answer, reasoning included.
    pub output: f64,
    /// Tokens of the prompt that come from a cache. Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<f64>,
    /// Tokens of the prompt that are written to a cache. Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
}

impl Price {
    /// A price without a cache.
    pub fn new(input: f64, output: f64) -> Self {
        Self { input, output, cached_input: None, cache_write: None }
    }

    /// What a call cost, in US dollars. `None` where the vendor counted nothing.
    pub fn cost(&self, usage: &Usage) -> Option<f64> {
        if usage.input.is_none() && usage.output.is_none() {
            return None;
        }
        let [input, cached, written, output] =
            [usage.input, usage.cached_input, usage.cache_write, usage.output].map(Option::unwrap_or_default);
        let plain = input.saturating_sub(cached).saturating_sub(written);
        let dollars = plain as f64 * self.input
            + cached as f64 * self.cached_input.unwrap_or(self.input)
            + written as f64 * self.cache_write.unwrap_or(self.input)
            + output as f64 * self.output;
        Some(dollars / 1e6)
    }
}

/// Prices by model. There are none built in: they would go stale. In files a table of pattern and price.
///
/// A pattern is a model's name in which `*` stands for anything. The pattern with the most other characters wins.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Price>")]
pub struct Prices(BTreeMap<String, Price>);

impl Prices {
    /// Prices by pattern.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for a price that is negative or not a number.
    pub fn new(prices: impl IntoIterator<Item = (impl Into<String>, Price)>) -> Result<Self> {
        let prices: BTreeMap<String, Price> =
            prices.into_iter().map(|(pattern, price)| (pattern.into(), price)).collect();
        for (pattern, price) in &prices {
            let all = [Some(price.input), Some(price.output), price.cached_input, price.cache_write];
            if let Some(wrong) = all.into_iter().flatten().find(|dollars| !(*dollars >= 0.0 && dollars.is_finite())) {
                let problem = format!("expected US dollars per million tokens, came {wrong}");
                return Err(Error::Configuration { setting: format!("price of {pattern}"), problem });
            }
        }
        Ok(Self(prices))
    }

    /// The price of a model, if there is one.
    pub fn of(&self, model: &str) -> Option<&Price> {
        let literal = |pattern: &str| pattern.chars().filter(|c| *c != '*').count();
        let found = self.0.iter().filter(|(pattern, _)| matches(pattern, model));
        found.max_by_key(|(pattern, _)| (literal(pattern), !pattern.contains('*'))).map(|(_, price)| price)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<String, Price>> for Prices {
    type Error = Error;

    fn try_from(prices: BTreeMap<String, Price>) -> Result<Self> {
        Self::new(prices)
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, mut tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(head) else { return false };
    while let Some((middle, next)) = tail.split_once('*') {
        let Some(place) = rest.find(middle) else { return false };
        rest = &rest[place + middle.len()..];
        tail = next;
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "gpt-5-mini", false),
            ("gpt-5*", "gpt-5", true),
            ("gpt-5*", "gpt-5-mini", true),
            ("*mini*", "gpt-5-mini-2", true),
            ("*-mini", "gpt-5-mini", true),
            ("*-mini", "gpt-5-mini-2", false),
            ("a*b*a", "aba", true),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_closest_pattern_wins() {
        let prices = ["*", "gpt*", "gpt-5*", "gpt-5"].into_iter().zip([1.0, 2.0, 3.0, 4.0]);
        let prices = Prices::new(prices.map(|(pattern, dollars)| (pattern, Price::new(dollars, 0.0)))).unwrap();
        for (model, dollars) in [("o3", 1.0), ("gpt-4", 2.0), ("gpt-5-mini", 3.0), ("gpt-5", 4.0)] {
            assert_eq!(prices.of(model).unwrap().input, dollars, "{model}");
        }
        assert_eq!(Prices::default().of("o3"), None);
    }

    #[test]
    fn tokens_of_the_cache_have_their_price() {
        let mut price = Price::new(2.0, 10.0);
        let mut usage = Usage { input: Some(1_000_000), output: Some(100_000), ..Usage::default() };
        assert_eq!(price.cost(&usage), Some(3.0));
        (usage.cached_input, usage.cache_write) = (Some(400_000), Some(100_000));
        assert_eq!(price.cost(&usage), Some(3.0));
        (price.cached_input, price.cache_write) = (Some(0.5), Some(4.0));
        // 500,000 at 2, 400,000 at 0.5, 100,000 at 4 and 100,000 at 10.
        assert!((price.cost(&usage).unwrap() - 2.6).abs() < 1e-12);
        assert_eq!(price.cost(&Usage::default()), None);
    }

    #[test]
    fn prices_are_a_file() {
        let prices: Prices = serde_json::from_str(r#"{"gpt-5*": {"input": 1.25, "output": 10}}"#).unwrap();
        assert_eq!(prices.of("gpt-5"), Some(&Price::new(1.25, 10.0)));
        let wrong = serde_json::from_str::<Prices>(r#"{"m": {"input": -1, "output": 10}}"#).unwrap_err();
        assert!(wrong.to_string().starts_with("price of m: expected US dollars"), "{wrong}");
        assert!(serde_json::from_str::<Prices>(r#"{"m": {"input": 1, "output": 10, "image": 1}}"#).is_err());
    }
}
