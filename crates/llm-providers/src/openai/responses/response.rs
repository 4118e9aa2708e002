//! Reading a whole answer.

use std::collections::VecDeque;

use super::answer::Answer;
use super::wire::Whole;
use crate::error::{Error, Result};
use crate::json;
use crate::response::Response;

pub(in crate::openai) fn response(provider: &str, body: &[u8]) -> Result<Response> {
    let expected = "a response";
    let whole: Whole = json::parse(provider, expected, body)?;
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
