//! Swarms against known optima, exact identities and bad input.

mod optima;
mod trials;
