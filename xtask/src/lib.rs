//! The tasks behind `cargo xtask`, one file each, and what they and the layering tests ask Cargo.

#![forbid(unsafe_code)]

pub mod bench;
pub mod ci;
pub mod command;
pub mod graph;
pub mod llm_servers;
pub mod mpi;
pub mod release;
pub mod system;
pub mod test;
