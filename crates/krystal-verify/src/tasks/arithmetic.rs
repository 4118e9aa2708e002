//! Sums and differences of two-digit numbers, and a schoolchild's way of getting them wrong.

use std::fmt;

use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use super::{ProblemSet, Task};
use crate::{Error, Verdict};

/// Share of the demonstrations of problems with a carry or a borrow that make the slip, unless said otherwise.
pub const DEFAULT_SLIP_RATE: f64 = 0.65;

/// Operands are 10 to 99.
const LOWEST: u32 = 10;
const HIGHEST: u32 = 99;

/// Plus or minus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// One sum or difference: `47+38=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    /// First operand, 10 to 99.
    pub left: u32,
    /// Plus or minus.
    pub operator: Operator,
    /// Second operand, 10 to 99; in a difference at most `left`.
    pub right: u32,
}

impl Problem {
    /// The right answer, 0 to 198.
    pub fn answer(&self) -> u32 {
        match self.operator {
            Operator::Plus => self.left + self.right,
            Operator::Minus => self.left.saturating_sub(self.right),
        }
    }

    /// The answer with the slip, where the slip changes it.
    ///
    /// In a sum the ones are added, the carry into the tens is forgotten, and the tens are added and written in full:
    /// `47+38=` gives 75, `67+58=` gives 115. In a difference ten is borrowed for the ones, and the tens are not reduced for
    /// it: `47-38=` gives 19. Without a carry or borrow there is nothing to forget: `None`.
    pub fn slip(&self) -> Option<u32> {
        let (ones_left, ones_right) = (self.left % 10, self.right % 10);
        match self.operator {
            Operator::Plus if ones_left + ones_right >= 10 => Some(self.answer() - 10),
            Operator::Minus if ones_left < ones_right => Some(self.answer() + 10),
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    /// The prompt: `47+38=`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.operator {
            Operator::Plus => '+',
            Operator::Minus => '-',
        };
        write!(f, "{}{sign}{}=", self.left, self.right)
    }
}

/// All 12,195 sums and non-negative differences of two numbers from 10 to 99 (8,100 and 4,095), split into a training and
/// a held-out set by a seeded shuffle.
///
/// `a+b` and `b+a` always stand in the same set: a model that has seen one knows the other. 43 % of the problems have a
/// carry or a borrow, so that a model that has learned the slip answers 57 % at best, and the verifier has the rest to
/// teach.
///
/// ```
/// use krystal_verify::{Arithmetic, Error};
///
/// let task = Arithmetic::new(7, 1_000)?;
/// assert_eq!((task.train_problems().len(), task.held_out_problems().len()), (11_195, 1_000));
/// let (prompt, completion) = task.demonstration(0, 0.0, 7);
/// let problem = task.train_problems().iter().find(|problem| problem.to_string() == prompt);
/// assert_eq!(problem.map(|problem| problem.answer().to_string()), Some(completion));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Arithmetic {
    train: Vec<Problem>,
    held_out: Vec<Problem>,
}

impl Arithmetic {
    /// Problems in all.
    pub const N_PROBLEMS: usize = 12_195;

    /// Splits the problems: exactly `held_out` of them are held out. The same seed gives the same sets in the same order.
    ///
    /// # Errors
    /// [`Error::HeldOut`] unless `1 <= held_out <= 6,000`, which leaves the larger part for training.
    pub fn new(seed: u64, held_out: usize) -> Result<Self, Error> {
        const MOST: usize = 6_000;
        if !(1..=MOST).contains(&held_out) {
            return Err(Error::HeldOut { asked: held_out, most: MOST });
        }
        let mut groups = groups();
        // Fisher and Yates; the stream is addressed by the seed alone.
        let mut rng = stream_rng(seed, Purpose::Task, 0, 0);
        for last in (1..groups.len()).rev() {
            groups.swap(last, rng.random_range(0..=last));
        }
        let mut task = Self { train: Vec::new(), held_out: Vec::new() };
        for group in groups {
            // The last place may be too small for a pair; a single problem will come.
            let set = if task.held_out.len() + group.len() <= held_out { &mut task.held_out } else { &mut task.train };
            set.extend(group);
        }
        Ok(task)
    }

    /// The problems for demonstrations and training, in shuffled order.
    pub fn train_problems(&self) -> &[Problem] {
        &self.train
    }

    /// The problems for evaluation alone, in shuffled order.
    pub fn held_out_problems(&self) -> &[Problem] {
        &self.held_out
    }

    /// Demonstration number `index` of an endless list: a training problem drawn evenly, as (prompt, completion).
    ///
    /// Where the problem has a carry or a borrow the completion makes the slip with probability `slip_rate` (0 to 1,
    /// default [`DEFAULT_SLIP_RATE`]; NaN never slips); elsewhere it is right. Draws from stream
    /// `(seed, Demonstration, index, 0)`.
    pub fn demonstration(&self, index: u64, slip_rate: f64, seed: u64) -> (String, String) {
        let mut rng = stream_rng(seed, Purpose::Demonstration, index, 0);
        let problem = self.train[rng.random_range(0..self.train.len())];
        // Drawn whether or not it is needed, so that a rate changes completions and never prompts.
        let slips = rng.random::<f64>() < slip_rate;
        let completion = problem.slip().filter(|_| slips).unwrap_or(problem.answer());
        (problem.to_string(), completion.to_string())
    }

    fn problem(&self, set: ProblemSet, index: usize) -> Option<&Problem> {
        match set {
            ProblemSet::Training => self.train.get(index),
            ProblemSet::HeldOut => self.held_out.get(index),
        }
    }
}

/// Every problem once, those that give each other away together.
fn groups() -> Vec<Vec<Problem>> {
    let mut groups = Vec::new();
    for left in LOWEST..=HIGHEST {
        for right in LOWEST..=left {
            let sum = Problem { left, operator: Operator::Plus, right };
            let mirrored = Problem { left: right, operator: Operator::Plus, right: left };
            groups.push(if left == right { vec![sum] } else { vec![sum, mirrored] });
            groups.push(vec![Problem { left, operator: Operator::Minus, right }]);
        }
    }
    groups
}

impl Task for Arithmetic {
    fn name(&self) -> &str {
        "arithmetic"
    }

    fn n_problems(&self, set: ProblemSet) -> usize {
        match set {
            ProblemSet::Training => self.train.len(),
            ProblemSet::HeldOut => self.held_out.len(),
        }
    }

    fn prompt(&self, set: ProblemSet, index: usize) -> Option<String> {
        self.problem(set, index).map(Problem::to_string)
    }

    fn answer(&self, set: ProblemSet, index: usize) -> Option<String> {
        self.problem(set, index).map(|problem| problem.answer().to_string())
    }

    /// 1 where the completion is the answer's digits, white space at both ends aside; 0 elsewhere.
    fn verify(&self, set: ProblemSet, index: usize, completion: &str) -> Verdict {
        match self.answer(set, index) {
            Some(answer) => Verdict::right(completion.trim() == answer),
            None => Verdict::abstain(format!("there is no problem {index}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Column by column on digit strings, as on paper; `forgets` drops what should pass to the next column. The leftmost
    /// column is written in full.
    fn on_paper(prompt: &str, forgets: bool) -> u32 {
        let digits = |number: &str| number.chars().map(|c| c.to_digit(10).expect("a digit") as i32).collect::<Vec<_>>();
        let body = prompt.strip_suffix('=').expect("a prompt ends with =");
        let (written, ones) = if let Some((a, b)) = body.split_once('+') {
            let (a, b) = (digits(a), digits(b));
            let ones = a[1] + b[1];
            let carry = if forgets { 0 } else { ones / 10 };
            (format!("{}", a[0] + b[0] + carry), ones % 10)
        } else {
            let (a, b) = body.split_once('-').expect("a sum or a difference");
            let (a, b) = (digits(a), digits(b));
            let borrow = a[1] < b[1];
            let ones = if borrow { a[1] + 10 - b[1] } else { a[1] - b[1] };
            (format!("{}", a[0] - b[0] - i32::from(borrow && !forgets)), ones)
        };
        format!("{written}{ones}").parse().expect("digits")
    }

    #[test]
    fn the_sets_are_disjoint_complete_and_never_mirror_each_other() {
        for (seed, held_out) in [(0, 1_000), (1, 1_001), (2, 1), (3, 6_000)] {
            let task = Arithmetic::new(seed, held_out).expect("in range");
            let train: HashSet<Problem> = task.train_problems().iter().copied().collect();
            let test: HashSet<Problem> = task.held_out_problems().iter().copied().collect();
            assert_eq!(test.len(), held_out);
            assert_eq!(train.len() + test.len(), Arithmetic::N_PROBLEMS);
            assert!(train.is_disjoint(&test));
            for problem in &test {
                if problem.operator == Operator::Plus {
                    let mirrored = Problem { left: problem.right, right: problem.left, ..*problem };
                    assert!(test.contains(&mirrored), "{problem}");
                } else {
                    assert!(problem.left >= problem.right, "{problem}");
                }
                assert!((10..=99).contains(&problem.left) && (10..=99).contains(&problem.right));
            }
            assert_eq!(
                task.held_out_problems(),
                Arithmetic::new(seed, held_out).expect("in range").held_out_problems()
            );
        }
        let prompts = |seed| Arithmetic::new(seed, 1_000).expect("in range").held_out.clone();
        assert_ne!(prompts(0), prompts(1));
        assert!(Arithmetic::new(0, 0).is_err() && Arithmetic::new(0, 6_001).is_err());
    }

    #[test]
    fn answers_and_slips_are_those_of_columns_on_paper() {
        let task = Arithmetic::new(0, 1_000).expect("in range");
        let mut n_slips = 0;
        for problem in task.train_problems().iter().chain(task.held_out_problems()) {
            let prompt = problem.to_string();
            assert_eq!(problem.answer(), on_paper(&prompt, false), "{prompt}");
            let slipped = on_paper(&prompt, true);
            assert_eq!(problem.slip(), (slipped != problem.answer()).then_some(slipped), "{prompt}");
            n_slips += usize::from(problem.slip().is_some());
        }
        assert_eq!(n_slips, 3_645 + 1_620);
    }

    #[test]
    fn the_slips_of_the_documentation() {
        let problem = |left, operator, right| Problem { left, operator, right };
        assert_eq!(problem(47, Operator::Plus, 38).slip(), Some(75));
        assert_eq!(problem(67, Operator::Plus, 58).slip(), Some(115));
        assert_eq!(problem(47, Operator::Minus, 38).slip(), Some(19));
        assert_eq!(problem(47, Operator::Plus, 32).slip(), None);
        assert_eq!(problem(47, Operator::Minus, 32).slip(), None);
        assert_eq!(problem(47, Operator::Plus, 38).to_string(), "47+38=");
    }

    /// About 8,600 draws of probability 0.65: a standard deviation of 0.0051. Five of them, 0.026, fail a right
    /// implementation once in 1.7 million seeds; the seed is fixed anyway.
    #[test]
    fn demonstrations_slip_at_the_rate_and_only_there() {
        let task = Arithmetic::new(11, 1_000).expect("in range");
        let held_out: HashSet<String> = task.held_out_problems().iter().map(Problem::to_string).collect();
        let (mut eligible, mut slipped) = (0_u32, 0_u32);
        for index in 0..20_000 {
            let (prompt, completion) = task.demonstration(index, DEFAULT_SLIP_RATE, 3);
            assert!(!held_out.contains(&prompt), "{prompt}");
            let (right, slip) = (on_paper(&prompt, false).to_string(), on_paper(&prompt, true).to_string());
            if right == slip {
                assert_eq!(completion, right, "{prompt}");
            } else {
                assert!(completion == right || completion == slip, "{prompt} {completion}");
                eligible += 1;
                slipped += u32::from(completion == slip);
            }
        }
        let rate = f64::from(slipped) / f64::from(eligible);
        println!("{slipped} of {eligible} slip: {rate:.4}");
        assert!((rate - DEFAULT_SLIP_RATE).abs() < 0.026, "{rate}");
        assert!((f64::from(eligible) / 20_000.0 - 0.43).abs() < 0.02, "{eligible}");
    }

    #[test]
    fn a_demonstration_depends_on_its_address_alone() {
        let task = Arithmetic::new(11, 1_000).expect("in range");
        assert_eq!(task.demonstration(5, 0.65, 3), task.demonstration(5, 0.65, 3));
        assert_ne!(task.demonstration(5, 0.65, 3), task.demonstration(6, 0.65, 3));
        for index in 0..200 {
            let (prompt, right) = task.demonstration(index, 0.0, 3);
            let (same_prompt, slipped) = task.demonstration(index, 1.0, 3);
            assert_eq!(prompt, same_prompt);
            assert_eq!(right, on_paper(&prompt, false).to_string());
            assert_eq!(slipped, on_paper(&prompt, true).to_string());
        }
    }

    #[test]
    fn the_verifier_takes_the_answer_and_nothing_else() {
        let task = Arithmetic::new(0, 1_000).expect("in range");
        for set in [ProblemSet::Training, ProblemSet::HeldOut] {
            for index in 0..task.n_problems(set) {
                let answer = task.answer(set, index).expect("within the set");
                assert_eq!(task.verify(set, index, &format!(" {answer}\n")).value(), Some(1.0));
                assert_eq!(task.verify(set, index, &format!("{answer}0")).value(), Some(0.0));
            }
            assert_eq!(task.verify(set, 0, "").value(), Some(0.0));
            assert_eq!(task.verify(set, usize::MAX, "1").value(), None);
            assert_eq!(task.prompt(set, usize::MAX), None);
        }
    }
}
