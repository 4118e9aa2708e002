#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "dynlora")]
pub use dynlora_core as dynlora;
#[cfg(feature = "resonance")]
pub use dynlora_resonance as resonance;
#[cfg(feature = "grpo")]
pub use grpo_trainer as grpo;
#[cfg(feature = "checkpoint")]
pub use krystal_checkpoint as checkpoint;
#[cfg(feature = "lm")]
pub use krystal_lm as lm;
#[cfg(feature = "math")]
pub use krystal_math as math;
#[cfg(feature = "phase")]
pub use krystal_phase as phase;
#[cfg(feature = "rl")]
pub use krystal_rl as rl;
#[cfg(feature = "swarm")]
pub use krystal_swarm as swarm;
#[cfg(feature = "verify")]
pub use krystal_verify as verify;
#[cfg(feature = "llm")]
pub use llm_providers as llm;
#[cfg(feature = "spheres")]
pub use sphere_hierarchy as spheres;
