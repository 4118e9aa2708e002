//! Everything but the parts that their own files test.

mod cuts;
mod recordings;
