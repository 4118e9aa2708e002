//! What goes around providers.

mod cache;
mod capture;
mod costs;
mod limits;
mod observed;
mod retry;
mod script;
mod timeouts;
