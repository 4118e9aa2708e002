//! Buffers that are all there, summed.

pub(crate) mod kernel;
mod tile;

pub mod exact;

pub(crate) use tile::fold_tiles;
pub use tile::{Accumulation, reduce, reduce_on_threads};
