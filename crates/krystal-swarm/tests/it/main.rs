//! Swarms against known optima, exact identities and bad input.

mod bad_input;
mod bias;
mod classic;
mod constraints;
mod optima;
mod properties;
mod spaces;
mod trials;

use krystal_swarm::Method;

/// All of them.
const METHODS: [Method; 5] =
    [Method::Classic, Method::Pso, Method::SuccessHistory, Method::Covariance, Method::Adaptive];
