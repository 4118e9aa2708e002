//! Reading a whole answer.

use std::collections::VecDeque;

use super::answer::Answer;
use super::wire::Whole;
use crate::error::{Error, Result};
use crate::response::Response;

pub(in crate::openai) fn response(provider: &str, body: &[u8]) -> Result<Response> {
    let expected = "a response";
    let whole: Whole = serde_json::from_slice(body).map_err(|error| Error::of_json(provider, expected, &error))?;
    if whole.output.is_none() && whole.error.is_none() {
        let found = "JSON without output".to_owned();
        return Err(Error::Decode { provider: provider.to_owned(), expected: expected.to_owned(), found });
    }
    let mut events = VecDeque::new();
    Answer::new(provider).end(whole, body, &mut events)?;
    let mut response = Response::default();
    events.iter().for_each(|event| response.take(event));
    Ok(response)
}
