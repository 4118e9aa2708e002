//! Recording real exchanges, and playing them in tests.

mod difference;
mod exchange;
mod play;
mod record;

pub use self::play::{Cuts, Ending, ReplayTransport};
pub use self::record::RecordTransport;
