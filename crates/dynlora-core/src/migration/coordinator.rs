//! The four channels.

use std::collections::VecDeque;

use krystal_math::statistics::quantile;
use serde::{Deserialize, Serialize};

use super::channel::Active;
use super::scheduler::Scheduler;
use super::{
    LayerAccess, LayerAddress, MigrationChannel, MigrationConfig, MigrationEvent, MigrationLog, MigrationMode,
    MigrationRequest, MigrationSignal, ShareGate,
};
use crate::{AgentId, Error, Level};

/// Criticalities that an emergency is measured against.
const CRITICALITIES: usize = 1000;
/// Fewer say nothing of a 99th percentile.
const MIN_CRITICALITIES: usize = 100;
/// What is critical (R43).
const CRITICAL_QUANTILE: f64 = 0.99;

/// Moves circuits from each layer to the next slower one, within its bandwidth and without changing the function.
///
/// Requests wait in the [`MigrationChannel`] of their level, ordered by pressure and age; a [`TokenBucket`](crate::TokenBucket)
/// meters each channel; circuits move channel by channel and each channel by fractions ([`Handoff`](crate::Handoff)); a slow
/// layer that is full is decomposed to make room; from private to shared it takes several agents ([`ShareGate`]).
/// Deterministic: the same requests and layers in the same order move the same numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationCoordinator {
    config: MigrationConfig,
    state: MigrationState,
}

/// All there is to restore of a coordinator: queues, moves under way, buckets, counters and the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationState {
    /// By the slower level: to Foundation, Domain, Swarm, Agent.
    channels: Vec<MigrationChannel>,
    criticalities: VecDeque<f64>,
    log: MigrationLog,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits.
    Queued,
    /// It waits, ahead of all others and with leave to borrow bandwidth.
    Emergency,
    /// The circuit was waiting already and has the new scores.
    Updated,
    /// Layers are in conflict over it.
    Vetoed,
    /// Too many wait.
    QueueFull,
    /// There is no slower layer, no channel in the circuit, or migration is off.
    Nowhere,
}

/// What a tick moved.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MigrationTick {
    /// Parameters by the slower level's index (to Foundation, Domain, Swarm, Agent), parts of channels counting as parts.
    pub parameters: [f64; 4],
}

impl MigrationCoordinator {
    /// Empty queues.
    pub fn new(config: MigrationConfig) -> Self {
        let to = [Level::Foundation, Level::Domain, Level::Swarm, Level::Agent];
        let channels = to.iter().filter_map(|to| Some(MigrationChannel::new(to.faster()?, *to, &config))).collect();
        let state = MigrationState { channels, criticalities: VecDeque::new(), log: MigrationLog::default() };
        Self { config, state }
    }

    /// Its settings.
    pub fn config(&self) -> &MigrationConfig {
        &self.config
    }

    /// Asks for a circuit to be moved to the next slower layer.
    ///
    /// A CONFLICT is a veto (R33). A criticality above the 99th percentile of the last thousand, once there are a hundred,
    /// makes it an emergency, at most one in a hundred ticks (R43).
    pub fn enqueue(&mut self, tick: u64, mut request: MigrationRequest) -> Enqueued {
        request.make_finite();
        let emergency = request.criticality.is_some_and(|criticality| self.is_critical(criticality));
        let level = request.circuit.level;
        let Some(to) = level.slower() else { return Enqueued::Nowhere };
        if self.config.mode == MigrationMode::Off || request.circuit.nodes.is_empty() {
            return Enqueued::Nowhere;
        }
        let channel = &mut self.state.channels[to.index()];
        channel.statistics.requests += 1;
        if request.signal == MigrationSignal::Conflict {
            channel.statistics.vetoed += 1;
            return Enqueued::Vetoed;
        }
        let address = LayerAddress::new(level, request.circuit.agent);
        let known = |pending: &&mut super::channel::Pending| {
            pending.fast() == address && pending.request.circuit.id == request.circuit.id
        };
        if let Some(pending) = channel.pending.iter_mut().find(known) {
            pending.request.circuit.scores = request.circuit.scores;
            pending.request.circuit.sketch = request.circuit.sketch;
            pending.request.vertical = request.vertical;
            pending.request.signal = request.signal;
            return Enqueued::Updated;
        }
        let emergency = emergency && channel.bucket.claim_emergency(tick);
        if channel.pending.len() >= self.config.max_queue && !emergency {
            channel.statistics.turned_away += 1;
            return Enqueued::QueueFull;
        }
        channel.statistics.emergencies += u64::from(emergency);
        channel.push(tick, request, emergency);
        if emergency { Enqueued::Emergency } else { Enqueued::Queued }
    }

    /// Moves what bandwidth allows, the slowest channel first, so that room that one makes is there for the next.
    ///
    /// Ends whatever the sizes, and leaves every agent's function as it was up to the rounding and truncation that the log
    /// reports, but for agents that a shared circuit is meant to reach (R46).
    pub fn tick(&mut self, tick: u64, layers: &mut dyn LayerAccess, gate: &mut dyn ShareGate) -> MigrationTick {
        let mut moved = MigrationTick::default();
        if self.config.mode == MigrationMode::Off {
            return moved;
        }
        for to in 0..self.state.channels.len() {
            let mut scheduler = Scheduler {
                tick,
                config: &self.config,
                layers,
                gate,
                log: &mut self.state.log,
                onward: Vec::new(),
                mixed: Vec::new(),
                freed: Vec::new(),
                parameters: 0.0,
            };
            scheduler.run(&mut self.state.channels[to]);
            moved.parameters[to] = scheduler.parameters;
            let Scheduler { onward, mixed, freed, .. } = scheduler;
            for (i, channel) in self.state.channels.iter_mut().enumerate() {
                if i != to {
                    mixed.iter().for_each(|(address, module)| channel.forget_still(*address, *module, None));
                    freed.iter().for_each(|(address, module, at)| channel.forget_still(*address, *module, Some(*at)));
                }
            }
            for request in onward {
                if let Some(slower) = request.circuit.level.slower() {
                    let channel = &mut self.state.channels[slower.index()];
                    channel.statistics.requests += 1;
                    channel.push(tick, request, false);
                }
            }
        }
        moved
    }

    /// The channel from the next faster level to `to`; `None` to Context.
    pub fn channel(&self, to: Level) -> Option<&MigrationChannel> {
        self.state.channels.get(to.index())
    }

    /// Drops what an agent that leaves has asked for. Moves under way end in the next tick, when its layers are no longer found.
    pub fn forget_agent(&mut self, agent: AgentId) {
        for channel in &mut self.state.channels {
            let busy = channel.busy();
            channel.pending.retain(|pending| {
                let fast = pending.fast();
                busy.contains(&pending.seq) || fast.level.is_shared() || fast.agent != agent
            });
        }
    }

    /// What has happened and has not been taken.
    pub fn log(&self) -> &MigrationLog {
        &self.state.log
    }

    /// Takes the events out of the log, oldest first.
    pub fn take_events(&mut self) -> Vec<MigrationEvent> {
        self.state.log.take()
    }

    /// All there is to restore.
    pub fn state(&self) -> MigrationState {
        self.state.clone()
    }

    /// Goes on from a state; exact where the layers are restored too.
    ///
    /// # Errors
    /// [`Error::State`] where it is not a state of four channels in order.
    pub fn restore(&mut self, state: MigrationState) -> Result<(), Error> {
        let levels = |state: &MigrationState| -> Vec<(Level, Level)> {
            state.channels.iter().map(|channel| (channel.from, channel.to)).collect()
        };
        let sound = |channel: &MigrationChannel| match &channel.active {
            Some(Active::Shared(shared)) => !shared.seqs.is_empty() && shared.done < shared.proposal.channels.len(),
            _ => true,
        };
        if levels(&state) != levels(&self.state) || !state.channels.iter().all(sound) {
            let names = |state: &MigrationState| {
                let pairs = levels(state);
                pairs.iter().map(|(from, to)| format!("{from} to {to}")).collect::<Vec<_>>().join(", ")
            };
            let (expected, found) = (names(&self.state), names(&state));
            return Err(Error::state("migration channels", expected, found));
        }
        self.state = state;
        Ok(())
    }

    /// Records a criticality and says whether it is above what was seen before it.
    fn is_critical(&mut self, criticality: f64) -> bool {
        if !criticality.is_finite() {
            return false;
        }
        let seen = &mut self.state.criticalities;
        let values: Vec<f64> = seen.iter().copied().collect();
        let threshold = quantile(&values, CRITICAL_QUANTILE);
        seen.push_back(criticality);
        if seen.len() > CRITICALITIES {
            seen.pop_front();
        }
        values.len() >= MIN_CRITICALITIES && threshold.is_some_and(|threshold| criticality > threshold)
    }
}

impl MigrationChannel {
    /// Requests that are moving.
    pub(super) fn busy(&self) -> Vec<u64> {
        match &self.active {
            None => Vec::new(),
            Some(Active::Handoff { seq, .. } | Active::Exchange { seq, .. }) => vec![*seq],
            Some(Active::Shared(shared)) => shared.seqs.clone(),
        }
    }
}
