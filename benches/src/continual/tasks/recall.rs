//! A table of keys and values to be remembered.

use krystal_math::rng::StreamRng;
use rand::RngExt;

use crate::continual::symbols::{ALPHABET, LETTERS, letter};
use crate::continual::task::Task;

/// Letters in both cases are the keys, and so are the values.
const KEYS: u32 = 2 * ALPHABET;

/// A permutation of the sixteen letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    values: Vec<u32>,
}

impl Recall {
    /// A table drawn at random.
    pub fn draw(rng: &mut StreamRng) -> Self {
        let mut values: Vec<u32> = (0..KEYS).collect();
        for i in (1..values.len()).rev() {
            values.swap(i, rng.random_range(0..=i));
        }
        Self { values }
    }
}

impl Task for Recall {
    fn name(&self) -> String {
        "table".to_owned()
    }

    fn question(&self, rng: &mut StreamRng) -> Vec<u32> {
        vec![letter(rng.random_range(0..KEYS))]
    }

    fn answer(&self, question: &[u32]) -> Vec<u32> {
        vec![letter(self.values[(question[0] - LETTERS) as usize])]
    }
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, stream_rng};

    use super::*;

    #[test]
    fn a_table_is_a_permutation_and_its_answers_stay() {
        let task = Recall::draw(&mut stream_rng(3, Purpose::Task, 0, 0));
        let other = Recall::draw(&mut stream_rng(4, Purpose::Task, 0, 0));
        let mut values: Vec<u32> = (0..KEYS).flat_map(|key| task.answer(&[letter(key)])).collect();
        assert_eq!(values, (0..KEYS).flat_map(|key| task.answer(&[letter(key)])).collect::<Vec<_>>());
        assert_ne!(values, (0..KEYS).flat_map(|key| other.answer(&[letter(key)])).collect::<Vec<_>>());
        values.sort_unstable();
        assert_eq!(values, (LETTERS..LETTERS + KEYS).collect::<Vec<_>>());
    }
}
