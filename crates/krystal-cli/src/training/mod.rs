//! What `krystal train` and `krystal sft` share: what is trained, on which prompts, where it is written, and how it is shown.

mod agreement;
mod divergence;
mod ending;
mod grpo_settings;
mod outcome;
mod prompts;
mod run_folder;
mod sft_settings;
mod trainable;
mod watch;

pub(crate) use agreement::{agree_on_data, agree_on_model};
pub(crate) use divergence::divergence;
pub(crate) use ending::Ending;
pub(crate) use outcome::{Outcome, percent};
pub(crate) use prompts::{PromptOptions, TaskName, check_golds, drop_long, hold_out, one_reward};
pub(crate) use run_folder::{Opened, RunOptions, keep_whole_model, next_free, resolved, resumable, write_config};
pub(crate) use trainable::{TrainableOptions, Trained, What};
pub(crate) use watch::{Watch, clock};
