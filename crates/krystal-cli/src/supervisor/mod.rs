//! What `krystal supervise` decides, apart from the processes that it is about.

mod command;
mod decision;
mod run_state;

pub(crate) use command::Supervised;
pub(crate) use decision::{Decision, Launch, decide};
pub(crate) use run_state::{RunState, can_resume, clear_unbegun, is_taken};
