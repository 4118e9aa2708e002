//! What goes around providers.

mod cache;
mod capture;
mod config;
mod costs;
mod limits;
mod llm_client;
mod observed;
mod retry;
mod router;
mod script;
mod timeouts;
