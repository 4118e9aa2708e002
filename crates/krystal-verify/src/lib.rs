#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod verdict;

mod gold;
mod math;

mod command;
mod rewards;
mod spec;

mod tasks;

mod error;

pub use command::Command;
pub use error::Error;
pub use gold::{Answer, Gold, GoldColumn};
pub use math::{Quantity, Unreadable};
pub use rewards::calculator::Calculator;
pub use rewards::exact::Exact;
pub use rewards::math::Math;
pub use rewards::numeric::Numeric;
pub use rewards::pattern::Pattern;
pub use rewards::repetition::Repetition;
pub use rewards::soft_overlong::SoftOverlong;
pub use rewards::think_format::ThinkFormat;
pub use spec::{KnownReward, RewardSpec, WeightedReward, known_rewards, parse_rewards};
pub use tasks::{Arithmetic, DEFAULT_SLIP_RATE, Operator, Problem, ProblemSet, Task};
pub use verdict::{Outcome, Sample, Verdict, Verifier};
