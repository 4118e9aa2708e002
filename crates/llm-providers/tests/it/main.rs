//! Everything but the parts that their own files test.

mod conformance;
mod cuts;
mod recordings;
