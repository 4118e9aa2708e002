//! Problems with one right answer.

use std::fmt::Debug;

use krystal_lm::TokenBatch;
use krystal_lm::kernels::Segment;
use krystal_math::rng::StreamRng;

use super::symbols::ASK;

/// A question and its answer, as token ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Example {
    /// Tag, question and the token that asks.
    pub prompt: Vec<u32>,
    /// The answer, at least one token.
    pub answer: Vec<u32>,
}

/// A source of problems. A question has the same answer whenever it is drawn.
pub trait Task: Debug + Send + Sync {
    /// What it is called in tables.
    fn name(&self) -> String;

    /// Draws the question's tokens, without tag.
    fn question(&self, rng: &mut StreamRng) -> Vec<u32>;

    /// The answer to a question that [`Task::question`] may draw.
    fn answer(&self, question: &[u32]) -> Vec<u32>;
}

/// Draws a problem under a tag.
pub fn draw(task: &dyn Task, tag: Option<u32>, rng: &mut StreamRng) -> Example {
    let question = task.question(rng);
    let answer = task.answer(&question);
    let prompt = tag.into_iter().chain(question).chain([ASK]).collect();
    Example { prompt, answer }
}

/// At most `count` problems with different questions.
pub fn draw_distinct(task: &dyn Task, tag: Option<u32>, count: usize, rng: &mut StreamRng) -> Vec<Example> {
    let mut seen = std::collections::BTreeSet::new();
    let mut examples = Vec::with_capacity(count);
    for _ in 0..count * 20 {
        if examples.len() == count {
            break;
        }
        let example = draw(task, tag, rng);
        if seen.insert(example.prompt.clone()) {
            examples.push(example);
        }
    }
    examples
}

/// Lays problems out as rows, each problem one segment whose answer tokens are scored in order.
pub fn token_batch<'a>(examples: impl IntoIterator<Item = &'a Example>) -> TokenBatch {
    let mut batch = TokenBatch::default();
    for Example { prompt, answer } in examples {
        let start = batch.tokens.len();
        let len = prompt.len() + answer.len() - 1;
        batch.segments.push(Segment { start, len, prefix: None });
        batch.tokens.extend(prompt.iter().chain(&answer[..answer.len() - 1]));
        batch.positions.extend(0..len as u32);
        batch.scored.extend(start + prompt.len() - 1..start + len);
        batch.targets.extend(answer);
    }
    batch
}
