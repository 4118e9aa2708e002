//! Which of several models a question goes to, learned from what came of earlier ones.

mod features;
mod replay;
mod router;
mod table;

pub(crate) use features::Features;
pub(crate) use replay::replay;
pub(crate) use router::Router;
pub(crate) use table::{Table, Worth};
