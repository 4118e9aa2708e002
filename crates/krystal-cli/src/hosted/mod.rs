//! Models behind a server: how they are reached, asked many questions at once, and paid for.
//!
//! The verbs are synchronous: each blocks on a runtime of one thread, and concurrency is that of futures. What was answered is
//! appended to a journal as it comes, by the content of the question, so that nothing is asked twice.

#[cfg(not(feature = "providers"))]
mod absent;
#[cfg(feature = "providers")]
mod answer;
#[cfg(feature = "providers")]
mod asking;
#[cfg(feature = "providers")]
mod connection;
#[cfg(feature = "providers")]
mod detection;
#[cfg(feature = "providers")]
mod drawing;
#[cfg(feature = "providers")]
mod journal;
#[cfg(feature = "providers")]
mod judge;
mod judge_options;
mod options;
#[cfg(feature = "providers")]
pub(crate) mod routing;
#[cfg(feature = "providers")]
mod spending;
#[cfg(feature = "providers")]
mod teacher;
mod teacher_options;

#[cfg(not(feature = "providers"))]
pub(crate) use absent::{Judge, check, detected, draw, left_out};
#[cfg(feature = "providers")]
pub(crate) use answer::{Answer, Failure, Question};
#[cfg(feature = "providers")]
pub(crate) use asking::{Asked, Ended, Limits, ask_all, runtime};
#[cfg(feature = "providers")]
pub(crate) use connection::Hosted;
#[cfg(feature = "providers")]
pub(crate) use detection::detected;
#[cfg(feature = "providers")]
pub(crate) use drawing::{Draws, ask_showing, seed_of, unfinished};
#[cfg(feature = "providers")]
pub(crate) use journal::Journal;
#[cfg(feature = "providers")]
pub(crate) use judge::Judge;
pub(crate) use judge_options::JudgeOptions;
#[cfg(feature = "providers")]
pub(crate) use judge_options::VoteRule;
pub(crate) use options::HostedOptions;
#[cfg(feature = "providers")]
pub(crate) use spending::{Spending, dollars};
#[cfg(feature = "providers")]
pub(crate) use teacher::{check, draw};
pub(crate) use teacher_options::{Lesson, Taught, TeacherOptions};
