//! What `krystal supervise` decides, apart from the processes that it is about.

mod command;
mod decision;
mod process;
mod run_state;

pub(crate) use command::Supervised;
pub(crate) use decision::{Decision, Ending, Launch, decide};
pub(crate) use process::Process;
pub(crate) use run_state::{RunState, can_resume, clear_unbegun, is_taken};
