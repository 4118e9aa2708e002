//! Calls of models over loopback: the server, and the clients that are measured, ours and others.

mod client;
mod server;
mod traffic;

pub use client::{Client, Counted, Open};
pub use server::Server;
pub use traffic::{ANSWER_TEXT, Traffic, VENDORS, events_of};
