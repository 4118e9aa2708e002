//! `alpha a + beta b + gamma a b + delta` modulo a prime.

use krystal_math::rng::StreamRng;
use rand::RngExt;

use crate::continual::symbols::{NUMBERS, number};
use crate::continual::task::Task;

/// The prime.
pub const MODULUS: u32 = 7;

/// One operation of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arithmetic {
    /// Factor of the first number.
    pub alpha: u32,
    /// Factor of the second number.
    pub beta: u32,
    /// Factor of their product.
    pub gamma: u32,
    /// What is added.
    pub delta: u32,
}

impl Task for Arithmetic {
    fn name(&self) -> String {
        let Self { alpha, beta, gamma, delta } = self;
        format!("{alpha}a+{beta}b+{gamma}ab+{delta}")
    }

    fn question(&self, rng: &mut StreamRng) -> Vec<u32> {
        (0..2).map(|_| number(rng.random_range(0..MODULUS))).collect()
    }

    fn answer(&self, question: &[u32]) -> Vec<u32> {
        let (a, b) = (question[0] - NUMBERS, question[1] - NUMBERS);
        vec![number((self.alpha * a + self.beta * b + self.gamma * a * b + self.delta) % MODULUS)]
    }
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, stream_rng};

    use super::*;

    #[test]
    fn answers_are_repeated_addition() {
        let task = Arithmetic { alpha: 3, beta: 5, gamma: 2, delta: 6 };
        let mut rng = stream_rng(0, Purpose::Task, 0, 0);
        for _ in 0..200 {
            let question = task.question(&mut rng);
            let (a, b) = (question[0] - NUMBERS, question[1] - NUMBERS);
            // Counts up one by one, so that no product and no remainder is taken.
            let mut clock = 0;
            let ticks = (0..3).flat_map(|_| 0..a).chain((0..5).flat_map(|_| 0..b));
            let products = (0..2).flat_map(|_| (0..a).flat_map(|_| 0..b));
            for _ in ticks.chain(products).chain(0..6) {
                clock = if clock + 1 == MODULUS { 0 } else { clock + 1 };
            }
            assert_eq!(task.answer(&question), [number(clock)]);
        }
    }
}
