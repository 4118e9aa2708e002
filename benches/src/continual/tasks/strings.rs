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
