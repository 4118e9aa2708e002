//! The five time-scales.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A layer of the hierarchy by its time-scale, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Level {
    /// Shared by all agents and almost still.
    Foundation = 0,
    /// Shared: a field of work.
    Domain = 1,
    /// Shared: what agents have in common now.
    Swarm = 2,
    /// One agent's own.
    Agent = 3,
    /// One agent's present task.
    Context = 4,
}

impl Level {
    /// All of them, in the order in which their channels are fused.
    pub const ALL: [Self; 5] = [Self::Foundation, Self::Domain, Self::Swarm, Self::Agent, Self::Context];
    /// Those of which there is one for all agents.
    pub const SHARED: [Self; 3] = [Self::Foundation, Self::Domain, Self::Swarm];
    /// Those of which every agent has its own.
    pub const PRIVATE: [Self; 2] = [Self::Agent, Self::Context];

    /// Place in [`Level::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name in files and on screen.
    pub const fn name(self) -> &'static str {
        ["foundation", "domain", "swarm", "agent", "context"][self.index()]
    }

    /// Whether all agents share it.
    pub const fn is_shared(self) -> bool {
        self.index() < 3
    }

    /// The next slower one.
    pub const fn slower(self) -> Option<Self> {
        if self.index() == 0 { None } else { Some(Self::ALL[self.index() - 1]) }
    }

    /// The next faster one.
    pub const fn faster(self) -> Option<Self> {
        if self.index() == 4 { None } else { Some(Self::ALL[self.index() + 1]) }
    }

    /// Nominal rank (seed: 64, 32, 16, 8, 4).
    pub const fn nominal_rank(self) -> usize {
        64 >> self.index()
    }

    /// Base inertia of the seed: .99, .9, .7, .5, .1.
    pub const fn base_inertia(self) -> f64 {
        [0.99, 0.9, 0.7, 0.5, 0.1][self.index()]
    }

    /// Ticks of one of its windows (R29): 256, 64, 16, 4, 1.
    pub const fn period(self) -> u64 {
        [256, 64, 16, 4, 1][self.index()]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no level's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected foundation, domain, swarm, agent or context, found `{0}`")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| UnknownLevel(name.to_owned()))
    }
}

/// Who learns: an agent with layers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentId(pub u64);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
