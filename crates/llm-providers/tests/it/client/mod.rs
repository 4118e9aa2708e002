//! What goes around providers.

mod cache;
mod capture;
mod config;
#[cfg(all(feature = "anthropic", feature = "gemini", feature = "ollama", feature = "openai"))]
mod connect;
mod costs;
mod limits;
mod llm_client;
mod observed;
#[cfg(feature = "opentelemetry")]
mod opentelemetry;
mod retry;
mod router;
mod script;
#[cfg(all(feature = "anthropic", feature = "gemini", feature = "ollama", feature = "openai"))]
mod secrets;
mod timeouts;
