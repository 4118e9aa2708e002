//! The built binary, run as a user would run it.

mod adapter;
mod bad_input;
mod chat;
#[cfg(feature = "providers")]
mod chat_server;
mod config_file;
mod doctor;
mod eval;
mod generate;
mod hierarchy;
#[cfg(feature = "providers")]
mod hosted;
mod krystal;
mod report;
mod score;
mod sft;
mod sphere;
#[cfg(unix)]
mod supervise;
mod tiny_model;
mod train;
mod train_dynamic;
#[cfg(unix)]
mod tune;
