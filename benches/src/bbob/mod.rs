//! Optimisers on COCO's 24 noiseless functions (Hansen et al. 2021, doi:10.1080/10556788.2020.1808977): who reaches which target after
//! how many evaluations.

mod contestant;
mod objective;
mod peers;
mod reached;

pub use contestant::{Contestant, run_all};
pub use objective::{Instances, Objective};
pub use peers::{Peer, run_peer};
pub use reached::{GROUPS, Reached, TARGETS, share};
