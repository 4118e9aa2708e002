//! The families of tasks.

mod arithmetic;
mod formal;
mod recall;
mod strings;

pub use arithmetic::{Arithmetic, MODULUS};
pub use formal::Language;
pub use recall::Recall;
pub use strings::{Letters, Order, Transform};
