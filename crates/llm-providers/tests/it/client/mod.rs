//! What goes around providers.

mod capture;
mod costs;
mod observed;
mod retry;
mod script;
mod timeouts;
