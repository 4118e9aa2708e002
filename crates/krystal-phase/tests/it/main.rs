//! Integration tests.

mod controller;
