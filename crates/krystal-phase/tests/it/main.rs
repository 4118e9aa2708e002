//! Integration tests.

mod anneal;
mod controller;
mod critical;
mod lattices;
mod tempering;
