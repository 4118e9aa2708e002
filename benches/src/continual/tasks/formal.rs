//! Formal languages: does a string belong, or in which state does an automaton end?

use krystal_math::rng::StreamRng;
use rand::RngExt;

use crate::continual::symbols::{BRACKETS, LETTERS, NO, YES, letter, number};
use crate::continual::task::Task;

/// Letters of a string; even, so that half of the brackets can close.
const LENGTH: usize = 4;

/// A language or an automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Language {
    /// How often a letter occurs, modulo `modulus`, over `alphabet` letters from `from` on.
    Count {
        /// The first letter there is.
        from: u32,
        /// Which letter is counted.
        of: u32,
        /// How many letters there are.
        alphabet: u32,
        /// Modulo which number; 2 is parity.
        modulus: u32,
    },
    /// Words with an even number of a letter.
    Even {
        /// The first letter there is.
        from: u32,
        /// Which letter is counted.
        of: u32,
        /// How many letters there are.
        alphabet: u32,
    },
    /// Balanced brackets of so many kinds (1 or 2).
    Dyck {
        /// Kinds of brackets.
        kinds: u32,
    },
    /// How many brackets are open at the end of a balanced string that was cut off.
    Depth {
        /// Kinds of brackets.
        kinds: u32,
    },
    /// So many of one letter, then as many of the other.
    Equal {
        /// The first letter.
        first: u32,
        /// The second.
        second: u32,
    },
    /// An automaton: `step[letter][state]` is the next state.
    Automaton {
        /// Next states.
        step: Vec<Vec<u32>>,
    },
    /// Whether the first and the last letter are the same.
    SameEnds {
        /// How many letters there are.
        alphabet: u32,
    },
    /// Whether one letter is more frequent than the other.
    Majority {
        /// The letter that has to be.
        of: u32,
        /// The other one.
        over: u32,
    },
}

impl Language {
    /// A `states`-reset automaton: some letters reset it to a state, one moves it on cyclically, one leaves it.
    pub fn draw_reset_automaton(states: u32, rng: &mut StreamRng) -> Self {
        let shift = rng.random_range(1..states);
        let mut step: Vec<Vec<u32>> = (0..2).map(|_| vec![rng.random_range(0..states); states as usize]).collect();
        step.push((0..states).map(|s| (s + shift) % states).collect());
        step.push((0..states).collect());
        Self::Automaton { step }
    }

    fn balanced(kinds: u32, length: usize, rng: &mut StreamRng) -> Vec<u32> {
        let (mut word, mut open) = (Vec::new(), Vec::new());
        while word.len() < length {
            let left = length - word.len();
            if open.len() == left || (!open.is_empty() && rng.random_bool(0.5)) {
                word.extend(open.pop());
            } else {
                let kind = BRACKETS + 2 * rng.random_range(0..kinds);
                word.push(kind);
                open.push(kind + 1);
            }
        }
        word
    }
}

impl Task for Language {
    fn name(&self) -> String {
        match self {
            Self::Count { from, of, alphabet, modulus } => {
                format!("count {of} in {from}..{} mod {modulus}", from + alphabet)
            }
            Self::Even { from, of, alphabet } => format!("even {of} in {from}..{}", from + alphabet),
            Self::Dyck { kinds } => format!("dyck-{kinds}"),
            Self::Depth { kinds } => format!("depth of {kinds}"),
            Self::Equal { first, second } => format!("{first}^n {second}^n"),
            Self::Automaton { step } => format!("{}-reset automaton", step[0].len()),
            Self::SameEnds { alphabet } => format!("same ends of {alphabet}"),
            Self::Majority { of, over } => format!("more {of} than {over}"),
        }
    }

    fn question(&self, rng: &mut StreamRng) -> Vec<u32> {
        let mut uniform = |from, alphabet| -> Vec<u32> {
            (0..LENGTH).map(|_| letter(from + rng.random_range(0..alphabet))).collect()
        };
        match self {
            Self::Count { from, alphabet, .. } | Self::Even { from, alphabet, .. } => uniform(*from, *alphabet),
            Self::SameEnds { alphabet } => {
                let mut word = uniform(0, *alphabet);
                if rng.random_bool(0.3) {
                    word[LENGTH - 1] = word[0];
                }
                word
            }
            Self::Majority { of, over } => {
                (0..LENGTH).map(|_| letter(if rng.random_bool(0.5) { *of } else { *over })).collect()
            }
            Self::Automaton { step } => uniform(0, step.len() as u32),
            Self::Depth { kinds } => {
                let mut word = Self::balanced(*kinds, 2 * LENGTH, rng);
                word.truncate(LENGTH);
                word
            }
            Self::Dyck { kinds } => {
                let mut word = Self::balanced(*kinds, LENGTH, rng);
                if rng.random_bool(0.75) {
                    let place = rng.random_range(0..LENGTH);
                    word[place] = BRACKETS + rng.random_range(0..2 * kinds);
                }
                word
            }
            Self::Equal { first, second } => {
                // All lengths are the same, so what varies is where the second letter starts, and a letter out of place.
                let half = LENGTH / 2;
                let start = if rng.random_bool(0.5) { half } else { rng.random_range(0..=LENGTH) };
                let mut word: Vec<u32> =
                    (0..LENGTH).map(|i| letter(if i < start { *first } else { *second })).collect();
                if rng.random_bool(0.3) {
                    let place = rng.random_range(0..LENGTH);
                    word[place] = letter(if rng.random_bool(0.5) { *first } else { *second });
                }
                word
            }
        }
    }

    fn answer(&self, question: &[u32]) -> Vec<u32> {
        let count = |index: u32| question.iter().filter(|token| **token == letter(index)).count();
        let belongs = match self {
            Self::Count { of, modulus, .. } => return vec![number(count(*of) as u32 % modulus)],
            Self::Automaton { step } => {
                let end = question.iter().fold(0, |state, token| step[(token - LETTERS) as usize][state as usize]);
                return vec![number(end)];
            }
            Self::Depth { .. } => {
                let opening = question.iter().filter(|token| (**token - BRACKETS).is_multiple_of(2)).count();
                return vec![number((2 * opening - LENGTH) as u32)];
            }
            Self::SameEnds { .. } => question[0] == question[LENGTH - 1],
            Self::Even { of, .. } => count(*of) % 2 == 0,
            Self::Majority { of, over } => count(*of) > count(*over),
            Self::Equal { first, second } => {
                let half = LENGTH / 2;
                question[..half].iter().all(|t| *t == letter(*first))
                    && question[half..].iter().all(|t| *t == letter(*second))
            }
            Self::Dyck { .. } => {
                let mut open = Vec::new();
                question.iter().all(|token| match (token - BRACKETS) % 2 {
                    0 => {
                        open.push(token + 1);
                        true
                    }
                    _ => open.pop() == Some(*token),
                }) && open.is_empty()
            }
        };
        vec![if belongs { YES } else { NO }]
    }
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, stream_rng};

    use super::*;

    fn draws(task: &Language) -> Vec<(String, Vec<u32>)> {
        let mut rng = stream_rng(1, Purpose::Task, 0, 0);
        let text = |token: u32| match token {
            BRACKETS.. => b"()[]"[(token - BRACKETS) as usize] as char,
            _ => (b'a' + (token - LETTERS) as u8) as char,
        };
        (0..300)
            .map(|_| {
                let question = task.question(&mut rng);
                let answer = task.answer(&question);
                (question.into_iter().map(text).collect(), answer)
            })
            .collect()
    }

    fn check(task: &Language, belongs: impl Fn(&str) -> bool) {
        let draws = draws(task);
        for (word, answer) in &draws {
            assert_eq!(*answer, [if belongs(word) { YES } else { NO }], "{word} in {task:?}");
        }
        let share = draws.iter().filter(|(_, answer)| *answer == [YES]).count();
        assert!((75..=225).contains(&share), "{share} of 300 belong to {task:?}");
    }

    #[test]
    fn balanced_brackets_are_those_that_vanish_pair_by_pair() {
        for kinds in [1, 2] {
            check(&Language::Dyck { kinds }, |word| {
                let mut word = word.to_owned();
                for _ in 0..LENGTH {
                    word = word.replace("()", "").replace("[]", "");
                }
                word.is_empty()
            });
        }
    }

    #[test]
    fn memberships_are_those_of_the_words_written_out() {
        check(&Language::Equal { first: 0, second: 1 }, |word| word == "aabb");
        check(&Language::Even { from: 4, of: 5, alphabet: 3 }, |word| word.split('f').count() % 2 == 1);
        check(&Language::SameEnds { alphabet: 3 }, |word| word.chars().next() == word.chars().last());
        check(&Language::Majority { of: 0, over: 1 }, |word| matches!(word.replace('b', "").len(), 3 | 4));
    }

    #[test]
    fn counts_and_depths_are_those_of_the_text() {
        for (word, answer) in draws(&Language::Count { from: 4, of: 5, alphabet: 3, modulus: 2 }) {
            assert!(word.chars().all(|c| ('e'..='g').contains(&c)), "{word}");
            assert_eq!(answer, [number((word.split('f').count() as u32 + 1) % 2)], "{word}");
        }
        for (word, answer) in draws(&Language::Depth { kinds: 2 }) {
            let mut left = word.clone();
            for _ in 0..LENGTH {
                left = left.replace("()", "").replace("[]", "");
            }
            // What cannot be cancelled is what is still open.
            assert_eq!(answer, [number(left.len() as u32)], "{word}");
        }
    }

    #[test]
    fn an_automaton_forgets_what_came_before_its_last_reset() {
        let task = Language::draw_reset_automaton(4, &mut stream_rng(5, Purpose::Task, 0, 0));
        let Language::Automaton { step } = &task else { panic!("an automaton is drawn") };
        let shift = step[2][0];
        for (word, answer) in draws(&task) {
            let reset = word.rfind(['a', 'b']);
            let start = reset.map_or(0, |at| step[usize::from(word.as_bytes()[at] - b'a')][0]);
            let moves = word[reset.map_or(0, |at| at + 1)..].matches('c').count() as u32;
            assert_eq!(answer, [number((start + moves * shift) % 4)], "{word}");
        }
    }
}
