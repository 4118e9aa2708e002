//! The Responses API.

mod answer;
mod request;
mod response;
mod stream;
mod wire;

pub(super) use response::response;
pub(super) use stream::Decoder;
