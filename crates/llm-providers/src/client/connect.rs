//! From settings to a vendor's provider.

use std::sync::Arc;

use super::config::ResolvedConfig;
#[cfg(feature = "http")]
use super::llm_client::LlmClient;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "ollama", feature = "openai"))]
use super::target::Vendor;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "ollama", feature = "openai"))]
use crate::http_provider::HttpProvider;
use crate::provider::LlmProvider;
use crate::transport::Transport;

/// The vendor's provider that settings name, over `transport`, with nothing around it.
///
/// # Errors
///
/// [`Error::Configuration`] for an address that is none, and for a vendor that this build was made without.
pub fn provider(config: &ResolvedConfig, transport: Arc<dyn Transport>) -> Result<Arc<dyn LlmProvider>> {
    let vendor = config.target.vendor;
    let address = config.target.address.as_deref();
    let endpoint = |own: &str| Ok::<_, Error>(Endpoint::new(address.unwrap_or(own))?.with_key(config.key.clone()));
    match vendor {
        #[cfg(feature = "openai")]
        Vendor::OpenAi => {
            use crate::openai::OpenAi;
            Ok(Arc::new(HttpProvider::new(OpenAi::new(endpoint(OpenAi::BASE_URL)?), transport)))
        }
        #[cfg(feature = "openai")]
        Vendor::OpenAiResponses => {
            use crate::openai::{Api, OpenAi};
            let protocol = OpenAi::new(endpoint(OpenAi::BASE_URL)?).with_api(Api::Responses);
            Ok(Arc::new(HttpProvider::new(protocol, transport)))
        }
        #[cfg(feature = "anthropic")]
        Vendor::Anthropic => {
            use crate::anthropic::Anthropic;
            let protocol = Anthropic::new(endpoint(Anthropic::BASE_URL)?);
            let protocol = if config.key_is_token() { protocol.with_bearer() } else { protocol };
            Ok(Arc::new(HttpProvider::new(protocol, transport)))
        }
        #[cfg(feature = "gemini")]
        Vendor::Gemini => {
            use crate::gemini::Gemini;
            Ok(Arc::new(HttpProvider::new(Gemini::new(endpoint(Gemini::BASE_URL)?), transport)))
        }
        #[cfg(feature = "ollama")]
        Vendor::Ollama => {
            use crate::ollama::Ollama;
            let address = Ollama::address(address.unwrap_or(Ollama::BASE_URL))?;
            let protocol = Ollama::new(Endpoint::new(&address)?.with_key(config.key.clone()));
            Ok(Arc::new(HttpProvider::new(protocol, transport)))
        }
        #[allow(unreachable_patterns, reason = "where all vendors are there")]
        vendor => {
            let (_, _) = (&endpoint, &transport);
            let problem = format!("this build has no {}: switch on the feature of its vendor", vendor.word());
            Err(Error::Configuration { setting: "target".to_owned(), problem })
        }
    }
}

/// Asks the Ollama of `OLLAMA_HOST`, or else that of this machine, whether it is there, for two seconds at most. Apart from
/// [`detect`](super::detect), which asks nobody.
///
/// # Errors
///
/// Why it is not, [`Error::Timeout`] for one that says nothing.
#[cfg(feature = "ollama")]
pub async fn probe_ollama(
    transport: Arc<dyn Transport>,
    environment: super::Environment<'_>,
) -> Result<crate::provider::Availability> {
    use super::timeouts::{TimeoutConfig, Timeouts};
    use crate::ollama::Ollama;

    let host = environment(Ollama::HOST_VARIABLE).filter(|host| !host.trim().is_empty());
    let address = Ollama::address(host.as_deref().unwrap_or(Ollama::BASE_URL))?;
    let provider = HttpProvider::new(Ollama::new(Endpoint::new(&address)?), transport);
    let patience = TimeoutConfig::default().with_total(std::time::Duration::from_secs(2));
    Timeouts::new(provider, patience).available().await
}

#[cfg(feature = "http")]
impl LlmClient {
    /// A client for what settings name, over HTTP, with all that they say around it.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] where a setting is wrong.
    pub fn connect(config: &ResolvedConfig) -> Result<Self> {
        use crate::transport::{HyperConfig, HyperTransport};

        // The transport has no word for no deadline; a day is none.
        let connect = config.timeouts.connect.unwrap_or(std::time::Duration::from_secs(86_400));
        let transport = Arc::new(HyperTransport::new(HyperConfig::default().with_connect_timeout(connect))?);
        Self::builder().config(config)?.provider(provider(config, transport)?).build()
    }

    /// A client for what the environment of this process names; see [`detect`](super::detect).
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] that lists what was looked for, where nothing is named.
    pub fn from_env() -> Result<Self> {
        let settings = super::ClientConfig::default();
        Self::connect(&super::resolve(&settings, &settings, &|name| std::env::var(name).ok())?)
    }
}
