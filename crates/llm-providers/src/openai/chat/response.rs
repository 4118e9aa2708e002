//! Reading a whole answer: one chunk that has everything.

use std::collections::VecDeque;

use super::answer::{Answer, EXPECTED};
use super::wire::Chunk;
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::json;
use crate::response::Response;

pub(in crate::openai) fn response(provider: &str, body: &[u8]) -> Result<Response> {
    let chunk: Chunk<'_> = json::parse(provider, EXPECTED, body)?;
    let has_choice = chunk.choices.choice.is_some();
    let mut events = VecDeque::new();
    let mut answer = Answer::new(provider, true);
    answer.chunk(chunk, body, &mut events)?;
    if !has_choice {
        let found = "JSON without a choice of index 0".to_owned();
        return Err(Error::Decode { provider: provider.to_owned(), expected: EXPECTED.to_owned(), found });
    }
    answer.finish_blocks(&mut events);
    events.push_back(StreamEvent::End(answer.stop()));
    let mut response = Response::default();
    events.iter().for_each(|event| response.take(event));
    Ok(response)
}
