//! Why each thing moved.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{LayerAddress, MigrationSignal, PressureParts, RoomKind};
use crate::{AgentId, PatternId};

/// Why a circuit moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationReason {
    /// Its pattern repeats at distant times.
    Stable,
    /// Gradients of several time-scales agree on it.
    FastTrack,
    /// Its loss when ablated is among the largest measured.
    Emergency,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MigrationAction {
    /// A channel began to move: `fraction` moves as bandwidth allows.
    Begun {
        /// Channel of the slow layer.
        slow_channel: usize,
        /// How that was found.
        room: RoomKind,
    },
    /// A channel has arrived; the fast one began anew.
    Arrived {
        /// Channel of the slow layer.
        slow_channel: usize,
    },
    /// A channel was exchanged with a full layer at once.
    Exchanged {
        /// Channel of the slow layer that holds most of it.
        slow_channel: usize,
    },
    /// The mean of several agents' channels began to move into the shared layer.
    SharingBegun {
        /// Channel of the shared layer.
        slow_channel: usize,
        /// Who has it in common.
        participants: Vec<AgentId>,
        /// Who has it subtracted without having taken part.
        exempt: Vec<AgentId>,
    },
    /// The mean has arrived.
    Shared {
        /// Channel of the shared layer.
        slow_channel: usize,
    },
    /// Neither layer has room, or there is no quorum: it waits.
    Blocked,
    /// It was given up after waiting without room for too long.
    Expired,
    /// It ended half-way (a layer went, or a row of `A` moved): both layers keep what they hold.
    Ended,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationEvent {
    /// When.
    pub tick: u64,
    /// Which circuit.
    pub circuit: PatternId,
    /// Whence.
    pub from: LayerAddress,
    /// Where to.
    pub to: LayerAddress,
    /// Module of the hierarchy; `None` where the circuit as a whole is meant.
    pub module: Option<usize>,
    /// Channel of the fast layer.
    pub channel: Option<usize>,
    /// What happened.
    pub action: MigrationAction,
    /// Share of the channel that the slow layer holds now.
    pub fraction: f64,
    /// Parameters of the circuit that have moved so far, a part of a channel counting as that part.
    pub parameters: f64,
    /// What its place in the queue came from.
    pub pressure: PressureParts,
    /// What vertical resonance said of it.
    pub signal: MigrationSignal,
    /// Why it moves.
    pub reason: MigrationReason,
    /// Part of the module's `|dW|_F` that was dropped for it.
    pub truncation: f64,
    /// Frobenius norm of the change of the sum over layers that the move has made so far: rounding, and what was dropped.
    pub jump: f64,
}

/// Events in order, until somebody takes them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MigrationLog {
    events: VecDeque<MigrationEvent>,
    lost: u64,
}

impl MigrationLog {
    /// The events that have not been taken, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &MigrationEvent> {
        self.events.iter()
    }

    /// Events that were dropped because nobody took them.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn push(&mut self, event: MigrationEvent, capacity: usize) {
        self.events.push_back(event);
        while self.events.len() > capacity {
            self.events.pop_front();
            self.lost += 1;
        }
    }

    pub(super) fn take(&mut self) -> Vec<MigrationEvent> {
        std::mem::take(&mut self.events).into()
    }
}
