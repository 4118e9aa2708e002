//! Training data: records with a prompt each, and the order in which they are visited.

mod jsonl;
mod prompt_order;
mod record;

pub use jsonl::{parse_record, read_jsonl};
pub use prompt_order::PromptOrder;
pub use record::{Message, Prompt, Record};
