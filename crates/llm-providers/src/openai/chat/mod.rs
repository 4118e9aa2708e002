//! Chat completions.

mod answer;
mod calls;
mod reasoning_details;
mod request;
mod response;
mod stream;
mod wire;

pub(super) use request::{choice_word, function_object};
pub(super) use response::response;
pub(super) use stream::Decoder;
