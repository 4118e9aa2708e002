//! What resonance must do, measured on gradients whose true direction is known.

#![forbid(unsafe_code)]

mod hostile_input;
mod opposition;
mod random_gradients;
mod saved_state;
mod settings;
mod time_scales;
