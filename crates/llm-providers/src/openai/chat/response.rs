//! Reading a whole answer: one chunk that has everything.

use std::collections::VecDeque;

use super::stream::Answer;
use super::wire::Chunk;
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::response::Response;

pub(in crate::openai) fn response(provider: &str, body: &[u8]) -> Result<Response> {
    let expected = "a chat completion";
    let chunk: Chunk<'_> = serde_json::from_slice(body).map_err(|error| Error::of_json(provider, expected, &error))?;
    let has_choice = chunk.choices.choice.is_some();
    let mut events = VecDeque::new();
    let mut answer = Answer::new(provider, true);
    answer.chunk(chunk, body, &mut events)?;
    if !has_choice {
        let found = "JSON without a choice of index 0".to_owned();
        return Err(Error::Decode { provider: provider.to_owned(), expected: expected.to_owned(), found });
    }
    answer.finish_blocks(&mut events);
    events.push_back(StreamEvent::End(answer.stop()));
    let mut response = Response::default();
    events.iter().for_each(|event| response.take(event));
    Ok(response)
}
