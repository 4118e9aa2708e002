//! Buffers that are all there, summed.

pub(crate) mod kernel;
mod tile;

pub mod exact;

pub use tile::{Accumulation, reduce, reduce_on_threads};
pub(crate) use tile::{PieceErrors, fold_tiles};
