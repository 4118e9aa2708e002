//! What one tick does between two layers.

use super::channel::{Active, MigrationChannel};
use super::compression::{channel_norm, exchange, make_room};
use super::transfer::take_copy;
use super::{
    Handoff, LayerAccess, LayerAddress, MigrationAction, MigrationConfig, MigrationEvent, MigrationLog, MigrationMode,
    MigrationRequest, MigrationSignal, RoomKind, ShareGate, WhenFull,
};
use crate::{Channel, CircuitNode};

/// One tick of one channel.
pub(super) struct Scheduler<'a> {
    pub(super) tick: u64,
    pub(super) config: &'a MigrationConfig,
    pub(super) layers: &'a mut dyn LayerAccess,
    pub(super) gate: &'a mut dyn ShareGate,
    pub(super) log: &'a mut MigrationLog,
    /// Requests to the next channel: circuits with leave to go on.
    pub(super) onward: Vec<MigrationRequest>,
    /// Modules of layers whose channels mean something else now.
    pub(super) mixed: Vec<(LayerAddress, usize)>,
    /// Channels that began anew or were written over.
    pub(super) freed: Vec<(LayerAddress, usize, usize)>,
    /// Parameters moved in this tick.
    pub(super) parameters: f64,
}

/// Whether to go on within this tick.
pub(super) enum Progress {
    Finished,
    Stalled,
}

impl Scheduler<'_> {
    /// Refills the bucket and moves what it allows. Ends: every turn of the loop finishes a channel, puts a request off to
    /// a later tick or is the last.
    pub(super) fn run(&mut self, channel: &mut MigrationChannel) {
        if self.config.mode == MigrationMode::Seed {
            return self.run_seed(channel);
        }
        channel.bucket.refill();
        loop {
            if channel.active.is_none() && !self.start_next(channel) {
                break;
            }
            let progress = match channel.active.take() {
                Some(Active::Handoff { seq, handoff, unit_cost, jump, truncation }) => {
                    self.hand_off(channel, seq, handoff, unit_cost, jump, truncation)
                }
                Some(Active::Exchange { seq, fast, module, channel: at, cost, paid }) => {
                    self.save_for_exchange(channel, seq, fast, (module, at), (cost, paid))
                }
                Some(Active::Shared(shared)) => self.share(channel, shared),
                None => break,
            };
            if matches!(progress, Progress::Stalled) {
                break;
            }
        }
    }

    /// Begins the most urgent move that can begin.
    fn start_next(&mut self, channel: &mut MigrationChannel) -> bool {
        for seq in channel.order(self.tick, self.config) {
            let Some(pending) = channel.find(seq) else { continue };
            let emergency = pending.emergency;
            if channel.bucket.available(emergency) <= 0.0 {
                return false;
            }
            if self.start(channel, seq) {
                return true;
            }
        }
        false
    }

    fn start(&mut self, channel: &mut MigrationChannel, seq: u64) -> bool {
        loop {
            let Some(pending) = channel.find(seq) else { return false };
            let fast = pending.fast();
            let Some(node) = pending.nodes.first().cloned() else {
                self.complete(channel, seq);
                return false;
            };
            let Some(source) = take_copy(self.layers, fast, node.module, node.channel) else {
                pending.nodes.remove(0);
                continue;
            };
            if source.b.iter().all(|b| *b == 0.0) {
                pending.nodes.remove(0);
                continue;
            }
            let slow = LayerAddress::new(channel.to, Some(fast.agent));
            let started = if source.state.is_pinned {
                false
            } else if !fast.level.is_shared() && slow.level.is_shared() && self.layers.agents().len() > 1 {
                self.start_sharing(channel, seq)
            } else {
                self.start_channel(channel, seq, fast, slow, &node, &source)
            };
            if !started {
                self.put_off(channel, seq, slow);
            }
            return started;
        }
    }

    fn start_channel(
        &mut self,
        channel: &mut MigrationChannel,
        seq: u64,
        fast: LayerAddress,
        slow: LayerAddress,
        node: &CircuitNode,
        source: &Channel,
    ) -> bool {
        let cost = self.unit_cost(fast, slow, source);
        let room = make_room(self.layers, slow, &[fast], node.module, self.config.truncation_tolerance);
        if let Some(room) = room {
            if room.kind != RoomKind::Free {
                self.mix(channel, slow, node.module);
            }
            let begun = Handoff::begin(self.layers, fast, slow, node.module, node.channel, room.channel);
            let Some(handoff) = begun else { return false };
            self.begin(channel, seq);
            let action = MigrationAction::Begun { slow_channel: room.channel, room: room.kind };
            self.note(channel, seq, slow, Some(node), action, 0.0, room.truncation, room.jump);
            channel.active =
                Some(Active::Handoff { seq, handoff, unit_cost: cost, jump: room.jump, truncation: room.truncation });
            return true;
        }
        let has_module = slow.of(self.layers).is_some_and(|layer| {
            layer.factors().get(node.module).is_some_and(|f| {
                (f.d_in, f.d_out) == (source.a.len(), source.b.len())
                    && (0..f.rank).any(|c| !layer.channel(node.module, c).is_pinned)
            })
        });
        if self.config.when_full == WhenFull::Exchange && has_module {
            self.begin(channel, seq);
            channel.active =
                Some(Active::Exchange { seq, fast, module: node.module, channel: node.channel, cost, paid: 0.0 });
            return true;
        }
        false
    }

    fn hand_off(
        &mut self,
        channel: &mut MigrationChannel,
        seq: u64,
        mut handoff: Handoff,
        unit_cost: f64,
        mut jump: f64,
        truncation: f64,
    ) -> Progress {
        let emergency = channel.find(seq).is_some_and(|pending| pending.emergency);
        let Some(fraction) = pay(channel, handoff.fraction, 1.0, unit_cost, emergency) else {
            channel.active = Some(Active::Handoff { seq, handoff, unit_cost, jump, truncation });
            return Progress::Stalled;
        };
        let (slow, module, at) = (handoff.slow, handoff.module, handoff.fast_channel);
        let node = CircuitNode { module, channel: at, ..CircuitNode::default() };
        let before = handoff.fraction;
        let Some(step) = handoff.advance(self.layers, fraction) else {
            self.note(channel, seq, slow, Some(&node), MigrationAction::Ended, before, truncation, jump);
            self.leave_behind(channel, seq, &node, None);
            return Progress::Finished;
        };
        jump += step;
        let width = slow.of(self.layers).map_or(0, |layer| {
            let factors = &layer.factors()[module];
            factors.d_in + factors.d_out
        });
        self.count(channel, seq, (fraction - before) * width as f64);
        if fraction < 1.0 {
            channel.active = Some(Active::Handoff { seq, handoff, unit_cost, jump, truncation });
            return Progress::Stalled;
        }
        let action = MigrationAction::Arrived { slow_channel: handoff.slow_channel };
        self.note(channel, seq, slow, Some(&node), action, 1.0, truncation, jump);
        self.leave_behind(channel, seq, &node, Some(handoff.slow_channel));
        self.free(channel, handoff.fast, module, at);
        Progress::Finished
    }

    fn save_for_exchange(
        &mut self,
        channel: &mut MigrationChannel,
        seq: u64,
        fast: LayerAddress,
        (module, at): (usize, usize),
        (cost, paid): (f64, f64),
    ) -> Progress {
        let node = CircuitNode { module, channel: at, ..CircuitNode::default() };
        let slow = LayerAddress::new(channel.to, Some(fast.agent));
        let emergency = channel.find(seq).is_some_and(|pending| pending.emergency);
        let Some(source) = take_copy(self.layers, fast, module, at) else {
            self.note(channel, seq, slow, Some(&node), MigrationAction::Ended, 0.0, 0.0, 0.0);
            self.leave_behind(channel, seq, &node, None);
            return Progress::Finished;
        };
        let mut paid = paid + channel.bucket.spend(cost - paid, emergency);
        let mut cost = cost;
        if paid >= cost {
            // Anew: the channel has trained while tokens were saved for it.
            cost = self.unit_cost(fast, slow, &source);
            paid += channel.bucket.spend(cost - paid, emergency);
        }
        if paid < cost {
            channel.active = Some(Active::Exchange { seq, fast, module, channel: at, cost, paid });
            return Progress::Stalled;
        }
        match exchange(self.layers, fast, slow, module, at) {
            Some((slow_channel, jump)) => {
                self.count(channel, seq, (source.a.len() + source.b.len()) as f64);
                let action = MigrationAction::Exchanged { slow_channel };
                self.note(channel, seq, slow, Some(&node), action, 1.0, 0.0, jump);
                self.leave_behind(channel, seq, &node, Some(slow_channel));
                self.mix(channel, slow, module);
                self.free(channel, fast, module, at);
            }
            None => {
                self.note(channel, seq, slow, Some(&node), MigrationAction::Ended, 0.0, 0.0, 0.0);
                self.leave_behind(channel, seq, &node, None);
            }
        }
        Progress::Finished
    }

    /// `max(parameters, c |T|_F / |dW|_F)` of a whole channel (R47), relative to the source's parameters and to the norm of
    /// both layers together: an empty target alone would make the change infinite.
    pub(super) fn unit_cost(&mut self, fast: LayerAddress, slow: LayerAddress, source: &Channel) -> f64 {
        let (parameters, fast_norm) =
            fast.of(self.layers).map_or((1, 0.0), |layer| (layer.num_parameters(), channel_norm(layer)));
        let slow_norm = slow.of(self.layers).map_or(0.0, |layer| channel_norm(layer));
        let by_parameters = (source.a.len() + source.b.len()) as f64 / parameters.max(1) as f64;
        let size = |row: &[f32]| krystal_math::low_rank::dot_f32(row, row);
        let change = (size(&source.a) * size(&source.b)).sqrt() / fast_norm.hypot(slow_norm);
        // A change that is no number is charged by parameters alone.
        by_parameters.max(if change.is_finite() { self.config.change_weight * change } else { 0.0 })
    }

    /// A circuit without nodes left has arrived, or there was nothing of it.
    pub(super) fn complete(&mut self, channel: &mut MigrationChannel, seq: u64) {
        let Some(pending) = channel.remove(seq) else { return };
        if pending.arrived.is_empty() {
            return;
        }
        channel.statistics.arrived += 1;
        let goes_on =
            pending.request.signal == MigrationSignal::FastTrack && self.config.fast_track_target < channel.to;
        if goes_on {
            let mut request = pending.request;
            let circuit = &mut request.circuit;
            circuit.level = channel.to;
            circuit.agent = if channel.to.is_shared() { None } else { circuit.agent };
            circuit.nodes = pending.arrived;
            circuit.edges.clear();
            self.onward.push(request);
        }
    }

    fn put_off(&mut self, channel: &mut MigrationChannel, seq: u64, slow: LayerAddress) {
        channel.statistics.blocked += 1;
        let (tick, retry, limit) = (self.tick, self.config.retry_ticks.max(1), self.config.max_blocked_ticks);
        let Some(pending) = channel.find(seq) else { return };
        pending.retry_at = tick.saturating_add(retry);
        let first = pending.blocked_since.is_none();
        let since = *pending.blocked_since.get_or_insert(tick);
        if tick.saturating_sub(since) > limit {
            self.note(channel, seq, slow, None, MigrationAction::Expired, 0.0, 0.0, 0.0);
            channel.statistics.expired += 1;
            channel.remove(seq);
        } else if first {
            self.note(channel, seq, slow, None, MigrationAction::Blocked, 0.0, 0.0, 0.0);
        }
    }

    pub(super) fn begin(&mut self, channel: &mut MigrationChannel, seq: u64) {
        let Some(pending) = channel.find(seq) else { return };
        pending.blocked_since = None;
        if !std::mem::replace(&mut pending.begun, true) {
            let waited = self.tick.saturating_sub(pending.since);
            channel.statistics.begun += 1;
            channel.statistics.waited_ticks += waited;
        }
    }

    /// The node is done with; `arrived` where it has a channel in the slow layer.
    fn leave_behind(&mut self, channel: &mut MigrationChannel, seq: u64, node: &CircuitNode, arrived: Option<usize>) {
        let Some(pending) = channel.find(seq) else { return };
        pending.nodes.retain(|n| (n.module, n.channel) != (node.module, node.channel));
        if let Some(channel) = arrived {
            pending.arrived.push(CircuitNode { channel, ..node.clone() });
        }
        if pending.nodes.is_empty() {
            self.complete(channel, seq);
        }
    }

    pub(super) fn mix(&mut self, channel: &mut MigrationChannel, address: LayerAddress, module: usize) {
        self.mixed.push((address, module));
        channel.forget_still(address, module, None);
    }

    pub(super) fn free(&mut self, channel: &mut MigrationChannel, address: LayerAddress, module: usize, at: usize) {
        self.freed.push((address, module, at));
        channel.forget_still(address, module, Some(at));
    }

    pub(super) fn count(&mut self, channel: &mut MigrationChannel, seq: u64, parameters: f64) {
        self.parameters += parameters;
        if let Some(pending) = channel.find(seq) {
            pending.parameters += parameters;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of an event that differ from move to move")]
    pub(super) fn note(
        &mut self,
        channel: &mut MigrationChannel,
        seq: u64,
        to: LayerAddress,
        node: Option<&CircuitNode>,
        action: MigrationAction,
        fraction: f64,
        truncation: f64,
        jump: f64,
    ) {
        let Some(pending) = channel.find(seq) else { return };
        let event = MigrationEvent {
            tick: self.tick,
            circuit: pending.request.circuit.id,
            from: pending.fast(),
            to,
            module: node.map(|node| node.module),
            channel: node.map(|node| node.channel),
            action,
            fraction,
            parameters: pending.parameters,
            pressure: pending.request.pressure(),
            signal: pending.request.signal,
            reason: pending.reason(),
            truncation: if truncation.is_finite() { truncation } else { f64::MAX },
            // A layer that is no longer finite: a number that survives a file.
            jump: if jump.is_finite() { jump } else { f64::MAX },
        };
        self.log.push(event, self.config.max_events);
    }
}

/// Buys as much of a move from `fraction` to `furthest` as the bucket allows; `None` where that is nothing.
pub(super) fn pay(
    channel: &mut MigrationChannel,
    fraction: f64,
    furthest: f64,
    unit_cost: f64,
    emergency: bool,
) -> Option<f64> {
    let need = (furthest - fraction) * unit_cost;
    let paid = channel.bucket.spend(need, emergency);
    if paid >= need {
        return Some(furthest);
    }
    let reached = fraction + paid / unit_cost;
    // Also ends what rounding keeps from its end.
    (paid > 0.0).then_some(if furthest - reached < 1e-12 { furthest } else { reached })
}
