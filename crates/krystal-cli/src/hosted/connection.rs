//! A hosted model by its target.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use krystal::llm::client::{CacheConfig, ClientConfig, LlmClient, Price, Prices, Target, TimeoutConfig, resolve};
use krystal::llm::{Error, LlmProvider, Message, Request, Usage};

use super::HostedOptions;
use crate::failure::{one_line, usage};

/// A model behind a server, ready to be asked.
#[derive(Clone)]
pub(crate) struct Hosted {
    provider: Arc<dyn LlmProvider>,
    model: String,
    target: String,
    price: Option<Price>,
}

impl Hosted {
    /// The model that `target` names. Nothing is sent yet.
    pub(crate) fn connect(target: &str, options: &HostedOptions) -> anyhow::Result<Self> {
        // What is no target may be a key in the wrong place: the error says no more of it than it must.
        let parsed = Target::parse(target).map_err(|error| usage(error.to_string()))?;
        let Some(model) = parsed.model.clone() else {
            let named = if parsed.address.is_some() { format!("{target}#MODEL") } else { format!("{target}:MODEL") };
            return Err(usage(format!("{target}: no model is named: expected {named}")));
        };
        let has_address = parsed.address.is_some();
        let prices = options.prices.as_deref().map(read_prices).transpose()?;
        let price = prices.as_ref().and_then(|prices| prices.of(&model)).copied();
        if let (Some(path), Some(_), None) = (&options.prices, options.max_cost, price) {
            let path = path.display();
            return Err(usage(format!("{path}: no price for `{model}`, without which --max-cost cannot be kept")));
        }
        let mut config = ClientConfig::new(parsed);
        let total = Duration::try_from_secs_f64(options.request_timeout);
        let total = total.map_err(|_| usage("--request-timeout: expected seconds that a clock can count"))?;
        config.timeouts = Some(TimeoutConfig::default().with_total(total));
        config.cache = options.provider_cache.as_ref().map(|folder| CacheConfig::default().with_folder(folder));
        config.key_variable = options.key_variable.clone().filter(|_| has_address);
        let config = resolve(&config, &ClientConfig::default(), &|name| std::env::var(name).ok())
            .map_err(|error| refused(target, &error))?;
        let client = LlmClient::connect(&config).map_err(|error| refused(target, &error))?;
        Ok(Self { provider: Arc::new(client), model, target: target.to_owned(), price })
    }

    /// A model of a provider that is at hand.
    #[cfg(test)]
    pub(crate) fn at_hand(provider: impl LlmProvider, model: &str) -> Self {
        let target = format!("memory:{model}");
        Self { provider: Arc::new(provider), model: model.to_owned(), target, price: None }
    }

    pub(crate) fn provider(&self) -> &dyn LlmProvider {
        &self.provider
    }

    /// As the user named it.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// What tells its answers from those of others: vendor, server and model.
    pub(crate) fn identity(&self) -> String {
        let server = self.provider.server().map_or_else(String::new, |(host, port)| format!("@{host}:{port}"));
        format!("{}{server}#{}", self.provider.name(), self.model)
    }

    /// A conversation for it.
    pub(crate) fn request(&self, messages: Vec<Message>) -> Request {
        Request::new(self.model.as_str(), messages)
    }

    /// What tokens cost in USD, where a price is known.
    pub(crate) fn cost(&self, usage: &Usage) -> Option<f64> {
        self.price?.cost(usage)
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosted({})", self.target)
    }
}

/// The error for a target that cannot be asked, as its settings are.
fn refused(target: &str, error: &Error) -> anyhow::Error {
    usage(format!("{target}: {error}"))
}

/// A table of prices.
fn read_prices(path: &Path) -> anyhow::Result<Prices> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let expected = "expected tables [\"MODEL\"] with input and output in USD per million tokens";
        usage(format!("{}: {expected}: {}", path.display(), one_line(error.message())))
    })
}
