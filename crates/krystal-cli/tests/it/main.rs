//! The built binary, run as a user would run it.

mod adapter;
mod bad_input;
mod chat;
mod config_file;
mod doctor;
mod generate;
mod krystal;
mod score;
mod tiny_model;
