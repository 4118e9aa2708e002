//! Flags of verbs that ask hosted models.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// How hosted models are asked.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Hosted models")]
pub(crate) struct HostedOptions {
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value = "8")]
    pub(crate) concurrency: NonZeroUsize,
    /// Ask nothing more once this is spent, earlier answers of the same file included; needs --prices
    #[arg(long, value_name = "USD", requires = "prices", value_parser = positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_cost: Option<f64>,
    /// What models cost: a table ["MODEL"] with input, output and cached_input in USD per million tokens
    #[arg(long, value_name = "FILE.toml")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prices: Option<PathBuf>,
    /// Seconds for a whole answer, each attempt
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, value_parser = positive)]
    pub(crate) request_timeout: f64,
    /// Environment variable that has the key of a server named by its address
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_variable: Option<String>,
    /// Keep whole answers of servers in this folder, and ask nothing that is there
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider_cache: Option<PathBuf>,
}

impl Default for HostedOptions {
    fn default() -> Self {
        const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(8).unwrap();
        Self {
            concurrency: CONCURRENCY,
            max_cost: None,
            prices: None,
            request_timeout: 600.0,
            key_variable: None,
            provider_cache: None,
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number above 0".to_owned())
}
