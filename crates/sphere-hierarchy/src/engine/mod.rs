//! Micro-batches over threads, and their gradients up the tree.
//!
//! A **block** is what one sphere without children computes: `12^k` neighbouring micro-batches, `k` the levels of the tree that the
//! depth leaves out. Blocks are handed out in order to at most `T` tasks; each computes its block with a fold of its own. A
//! finished block waits until all before it are added, and whoever finishes one adds what has become possible. No thread waits
//! for another: a task that may not go further (the block before is so slow that memory for more has run out) ends, and is
//! started again by whoever makes room.
//!
//! Memory: `T (h + 1)` gradients for a tree of height `h`: of every task one for the micro-batch and `k` partial sums, `h - k`
//! partial sums that all share (the last is the result), and `(T - 1)(h - k)` that wait.
//!
//! What threads share changes hands through queues without locks: whoever takes the one [`Spine`] of a lane out of its queue
//! owns it until it is put back.

mod block_sum;
mod lane;
mod run;
mod spares;

pub(crate) use lane::Partial;
pub(crate) use run::{Engine, Outcome, Plan};
pub(crate) use spares::Spares;
