//! What waits between two layers.

use serde::{Deserialize, Serialize};

use super::consensus::SharedMove;
use super::{Handoff, LayerAddress, MigrationConfig, MigrationReason, TokenBucket};
use crate::{Circuit, CircuitNode, Level};

/// What vertical resonance says of a circuit's layer and agent (R33, R34).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationSignal {
    /// Nothing particular.
    #[default]
    Normal,
    /// Time-scales agree: priority, and leave to go on through several layers.
    FastTrack,
    /// Time-scales oppose each other: no request is accepted.
    Conflict,
    /// What was learned before no longer holds: as normal.
    Shift,
}

/// A wish to move a circuit to the next slower layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationRequest {
    /// What.
    pub circuit: Circuit,
    /// Vertical alignment `v` in `[-1, 1]`; 0 where it is not known.
    pub vertical: f64,
    /// What vertical resonance says.
    pub signal: MigrationSignal,
    /// Measured rise of the loss when the circuit is ablated on a probe batch. Without it there is no emergency.
    pub criticality: Option<f64>,
}

impl MigrationRequest {
    /// A request with nothing known but the circuit.
    pub fn new(circuit: Circuit) -> Self {
        Self { circuit, vertical: 0.0, signal: MigrationSignal::Normal, criticality: None }
    }

    /// What is no number counts as nothing; it would not survive a file either.
    pub(super) fn make_finite(&mut self) {
        let finite = |x: &mut f64| *x = if x.is_finite() { *x } else { 0.0 };
        let scores = &mut self.circuit.scores;
        finite(&mut scores.gradient_autocorrelation);
        finite(&mut scores.usage_autocorrelation);
        finite(&mut scores.autocorrelation);
        finite(&mut scores.usage_rank);
        finite(&mut scores.coherence);
        finite(&mut self.vertical);
        self.criticality = self.criticality.filter(|criticality| criticality.is_finite());
        if !self.circuit.sketch.iter().all(|x| x.is_finite()) {
            self.circuit.sketch.clear();
        }
        for node in &mut self.circuit.nodes {
            node.activation = if node.activation.is_finite() { node.activation } else { 0.0 };
        }
    }

    /// The parts of its pressure.
    pub fn pressure(&self) -> PressureParts {
        // `max` and `min` leave no NaN, `clamp` would.
        let within = |x: f64, low: f64| x.max(low).min(1.0);
        let scores = &self.circuit.scores;
        PressureParts {
            autocorrelation: within(scores.autocorrelation, 0.0),
            usage_rank: within(scores.usage_rank, 0.0),
            vertical: if self.vertical.is_nan() { 0.0 } else { within(self.vertical, -1.0) },
        }
    }
}

/// What consolidation pressure is made of (R35).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PressureParts {
    /// Positive part of the autocorrelation, in `[0, 1]`.
    pub autocorrelation: f64,
    /// Rank of its usage, in `[0, 1]`.
    pub usage_rank: f64,
    /// Vertical alignment, in `[-1, 1]`.
    pub vertical: f64,
}

impl PressureParts {
    /// `autocorrelation * usage_rank * (vertical + 1) / 2`, in `[0, 1]`.
    pub fn pressure(&self) -> f64 {
        self.autocorrelation * self.usage_rank * (self.vertical + 1.0) / 2.0
    }
}

/// Counters of a channel since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChannelStatistics {
    /// Requests made.
    pub requests: u64,
    /// Of these, vetoed by a conflict.
    pub vetoed: u64,
    /// Of these, turned away because the queue was full.
    pub turned_away: u64,
    /// Accepted but given up for want of room or quorum.
    pub expired: u64,
    /// Circuits that have arrived.
    pub arrived: u64,
    /// Emergencies.
    pub emergencies: u64,
    /// Times that a request found no room.
    pub blocked: u64,
    /// Ticks that circuits which began to move had waited, together.
    pub waited_ticks: u64,
    /// Circuits that began to move.
    pub begun: u64,
}

impl ChannelStatistics {
    /// Share of requests turned away or given up; a veto is no rejection. `None` before the first.
    pub fn rejection_rate(&self) -> Option<f64> {
        let asked = self.requests - self.vetoed;
        (asked > 0).then(|| (self.turned_away + self.expired) as f64 / asked as f64)
    }

    /// Mean ticks from request to first move; `None` before the first.
    pub fn average_wait(&self) -> Option<f64> {
        (self.begun > 0).then(|| self.waited_ticks as f64 / self.begun as f64)
    }
}

/// A request that waits or moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) seq: u64,
    pub(super) since: u64,
    pub(super) request: MigrationRequest,
    /// Nodes that have not arrived, the next one first.
    pub(super) nodes: Vec<CircuitNode>,
    /// Nodes that have, with their channels of the slow layer.
    pub(super) arrived: Vec<CircuitNode>,
    pub(super) parameters: f64,
    pub(super) blocked_since: Option<u64>,
    pub(super) retry_at: u64,
    pub(super) emergency: bool,
    pub(super) begun: bool,
}

impl Pending {
    pub(super) fn fast(&self) -> LayerAddress {
        LayerAddress::new(self.request.circuit.level, self.request.circuit.agent)
    }

    pub(super) fn reason(&self) -> MigrationReason {
        match self.request.signal {
            _ if self.emergency => MigrationReason::Emergency,
            MigrationSignal::FastTrack => MigrationReason::FastTrack,
            _ => MigrationReason::Stable,
        }
    }

    fn priority(&self, tick: u64, config: &MigrationConfig) -> f64 {
        let boost = if self.request.signal == MigrationSignal::FastTrack { config.fast_track_boost } else { 1.0 };
        boost * self.request.pressure().pressure() + config.ageing * tick.saturating_sub(self.since) as f64
    }
}

/// What is moving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Active {
    /// A channel, bit by bit.
    Handoff { seq: u64, handoff: Handoff, unit_cost: f64, jump: f64, truncation: f64 },
    /// Tokens are being saved for an exchange.
    Exchange { seq: u64, fast: LayerAddress, module: usize, channel: usize, cost: f64, paid: f64 },
    /// Several agents' mean, bit by bit.
    Shared(SharedMove),
}

/// The way from one level to the next slower one: a bucket, a queue and what is moving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationChannel {
    pub(super) from: Level,
    pub(super) to: Level,
    pub(super) bucket: TokenBucket,
    pub(super) pending: Vec<Pending>,
    pub(super) active: Option<Active>,
    pub(super) next_seq: u64,
    pub(super) statistics: ChannelStatistics,
    /// The seed's accumulator, for [`MigrationMode::Seed`](super::MigrationMode::Seed).
    pub(super) current_transfer: f64,
}

impl MigrationChannel {
    pub(super) fn new(from: Level, to: Level, config: &MigrationConfig) -> Self {
        let rate = config.rates[to.index()];
        let bucket = TokenBucket::new(rate, rate * config.burst_ticks, rate * config.emergency_ticks);
        Self {
            from,
            to,
            bucket,
            pending: Vec::new(),
            active: None,
            next_seq: 0,
            statistics: ChannelStatistics::default(),
            current_transfer: 0.0,
        }
    }

    /// The faster level.
    pub fn from(&self) -> Level {
        self.from
    }

    /// The slower level.
    pub fn to(&self) -> Level {
        self.to
    }

    /// Requests that have not arrived, those that move included.
    pub fn backlog(&self) -> usize {
        self.pending.len()
    }

    /// Its counters.
    pub fn statistics(&self) -> &ChannelStatistics {
        &self.statistics
    }

    /// Its bandwidth.
    pub fn bucket(&self) -> &TokenBucket {
        &self.bucket
    }

    pub(super) fn push(&mut self, tick: u64, request: MigrationRequest, emergency: bool) {
        self.pending.push(Pending {
            seq: self.next_seq,
            since: tick,
            nodes: request.circuit.nodes.clone(),
            request,
            arrived: Vec::new(),
            parameters: 0.0,
            blocked_since: None,
            retry_at: 0,
            emergency,
            begun: false,
        });
        self.next_seq += 1;
    }

    pub(super) fn find(&mut self, seq: u64) -> Option<&mut Pending> {
        self.pending.iter_mut().find(|pending| pending.seq == seq)
    }

    pub(super) fn remove(&mut self, seq: u64) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.seq == seq)?;
        Some(self.pending.remove(at))
    }

    /// Requests that may be tried now, the most urgent first: emergencies, then by priority, autocorrelation and age.
    pub(super) fn order(&self, tick: u64, config: &MigrationConfig) -> Vec<u64> {
        let mut order: Vec<&Pending> = self.pending.iter().filter(|pending| pending.retry_at <= tick).collect();
        order.sort_by(|x, y| {
            let autocorrelation = |p: &Pending| p.request.pressure().autocorrelation;
            (y.emergency.cmp(&x.emergency))
                .then(y.priority(tick, config).total_cmp(&x.priority(tick, config)))
                .then(autocorrelation(y).total_cmp(&autocorrelation(x)))
                .then(x.seq.cmp(&y.seq))
        });
        order.iter().map(|pending| pending.seq).collect()
    }

    /// A module of a layer was decomposed, or one of its channels began anew: requests no longer mean it. Those that
    /// are being shared have been looked at when they began.
    pub(super) fn forget_still(&mut self, address: LayerAddress, module: usize, channel: Option<usize>) {
        let sharing = if let Some(Active::Shared(shared)) = &self.active { shared.seqs.clone() } else { Vec::new() };
        for pending in self.pending.iter_mut().filter(|pending| pending.fast() == address) {
            if !(sharing.contains(&pending.seq) && channel.is_none()) {
                let gone = |node: &CircuitNode| node.module == module && channel.is_none_or(|c| c == node.channel);
                pending.nodes.retain(|node| !gone(node));
            }
        }
    }
}
