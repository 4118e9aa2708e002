//! Integration tests.

mod anneal;
mod controller;
