//! Transforms of short strings: an order of the letters, then a change of each letter.

use krystal_math::rng::StreamRng;
use rand::RngExt;

use crate::continual::symbols::{ALPHABET, END, LETTERS, letter};
use crate::continual::task::Task;

/// Letters of a string.
const LENGTH: usize = 4;

/// Which letters stay and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they are.
    Keep,
    /// Last to first.
    Reverse,
    /// The first so many go to the end.
    Rotate(usize),
    /// The first so many.
    First(usize),
    /// The last so many.
    Last(usize),
}

/// What becomes of each letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// Nothing.
    Keep,
    /// So many places on in the alphabet, cyclically.
    Rotate(u32),
    /// The other case.
    SwapCase,
    /// The same place from the alphabet's other end.
    Mirror,
}

/// An order, then a change of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform {
    /// Which letters in which order.
    pub order: Order,
    /// What becomes of each.
    pub letters: Letters,
}

impl Order {
    fn apply(self, mut word: Vec<u32>) -> Vec<u32> {
        match self {
            Self::Keep => {}
            Self::Reverse => word.reverse(),
            Self::Rotate(n) => word.rotate_left(n),
            Self::First(n) => word.truncate(n),
            Self::Last(n) => drop(word.drain(..word.len() - n)),
        }
        word
    }
}

impl Letters {
    fn apply(self, index: u32) -> u32 {
        let (case, place) = (index / ALPHABET, index % ALPHABET);
        let (case, place) = match self {
            Self::Keep => (case, place),
            Self::Rotate(n) => (case, (place + n) % ALPHABET),
            Self::SwapCase => (1 - case, place),
            Self::Mirror => (case, ALPHABET - 1 - place),
        };
        case * ALPHABET + place
    }
}

impl Task for Transform {
    fn name(&self) -> String {
        format!("{:?}, {:?}", self.order, self.letters).to_lowercase()
    }

    fn question(&self, rng: &mut StreamRng) -> Vec<u32> {
        (0..LENGTH).map(|_| letter(rng.random_range(0..2 * ALPHABET))).collect()
    }

    fn answer(&self, question: &[u32]) -> Vec<u32> {
        let word = self.order.apply(question.to_vec());
        word.into_iter().map(|token| letter(self.letters.apply(token - LETTERS))).chain([END]).collect()
    }
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, stream_rng};

    use super::*;

    /// Token ids as text: `a` to `h`, `A` to `H`.
    fn text(tokens: &[u32]) -> String {
        tokens.iter().map(|token| b"abcdefghABCDEFGH"[(token - LETTERS) as usize] as char).collect()
    }

    /// The same transform on text, character by character.
    fn oracle(task: Transform, word: &str) -> String {
        let word: Vec<char> = word.chars().collect();
        let ordered: String = match task.order {
            Order::Keep => word.iter().collect(),
            Order::Reverse => word.iter().rev().collect(),
            Order::Rotate(n) => (0..word.len()).map(|i| word[(i + n) % word.len()]).collect(),
            Order::First(n) => word[..n].iter().collect(),
            Order::Last(n) => word[word.len() - n..].iter().collect(),
        };
        let change = |c: char| match task.letters {
            Letters::Keep => c,
            Letters::SwapCase if c.is_lowercase() => c.to_ascii_uppercase(),
            Letters::SwapCase => c.to_ascii_lowercase(),
            Letters::Rotate(n) => {
                let start = if c.is_lowercase() { b'a' } else { b'A' };
                ((c as u8 - start + n as u8) % 8 + start) as char
            }
            Letters::Mirror => {
                let from = "abcdefghABCDEFGH".find(c).unwrap_or_default();
                "hgfedcbaHGFEDCBA".as_bytes()[from] as char
            }
        };
        ordered.chars().map(change).collect()
    }

    #[test]
    fn answers_are_those_of_text_and_end() {
        let mut rng = stream_rng(0, Purpose::Task, 0, 0);
        let orders = [Order::Keep, Order::Reverse, Order::Rotate(1), Order::Rotate(3), Order::First(2), Order::Last(2)];
        let letters = [Letters::Keep, Letters::Rotate(3), Letters::SwapCase, Letters::Mirror];
        for order in orders {
            for letters in letters {
                let task = Transform { order, letters };
                for _ in 0..20 {
                    let question = task.question(&mut rng);
                    let answer = task.answer(&question);
                    let (end, answer) = answer.split_last().unwrap();
                    assert_eq!(text(answer), oracle(task, &text(&question)), "{task:?}");
                    assert_eq!(*end, END);
                }
            }
        }
    }
}
