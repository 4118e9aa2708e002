//! How several agents' circuits move, tick by tick.

use super::channel::{Active, MigrationChannel, Pending};
use super::consensus::{SharedHandoff, SharedMove, cluster, exempt_agents, propose};
use super::scheduler::{Progress, Scheduler, pay};
use super::{MigrationAction, MigrationSignal};
use crate::CircuitNode;

impl Scheduler<'_> {
    pub(super) fn start_sharing(&mut self, channel: &mut MigrationChannel, seq: u64) -> bool {
        let sharing = &self.config.sharing;
        let seqs = cluster(self.layers, &channel.pending, seq, self.config);
        if seqs.len() < sharing.quorum.max(2) {
            return false;
        }
        let circuits: Vec<&Pending> =
            seqs.iter().filter_map(|seq| channel.pending.iter().find(|pending| pending.seq == *seq)).collect();
        let proposal = propose(self.layers, &circuits);
        if proposal.channels.is_empty() {
            return false;
        }
        if self
            .gate
            .consensus(&proposal.participants)
            .is_some_and(|kappa| kappa.is_nan() || kappa < sharing.min_consensus)
        {
            return false;
        }
        let exempt = exempt_agents(self.layers, &proposal, self.gate, self.config);
        let mut shared = SharedMove { seqs, proposal, exempt, done: 0, current: None };
        if !self.start_shared_channel(channel, &mut shared) {
            return false;
        }
        for seq in shared.seqs.clone() {
            self.begin(channel, seq);
        }
        channel.active = Some(Active::Shared(shared));
        true
    }

    fn start_shared_channel(&mut self, channel: &mut MigrationChannel, shared: &mut SharedMove) -> bool {
        let unit = &shared.proposal.channels[shared.done];
        let present = self.layers.agents();
        let mut agents: Vec<_> = shared.proposal.participants.iter().chain(&shared.exempt).copied().collect();
        agents.retain(|agent| present.contains(agent));
        let mut mixed = Vec::new();
        let begun = SharedHandoff::begin(self.layers, unit, &agents, self.config, &mut mixed);
        for (address, module) in mixed {
            // Not the participants' own requests: what they asked for is in the proposal already.
            self.mix(channel, address, module);
        }
        let Some((handoff, _)) = begun else { return false };
        let action = MigrationAction::SharingBegun {
            slow_channel: handoff.slow_channel,
            participants: shared.proposal.participants.clone(),
            exempt: shared.exempt.clone(),
        };
        let node = CircuitNode { module: unit.module, ..CircuitNode::default() };
        self.note(channel, shared.seqs[0], handoff.slow, Some(&node), action, 0.0, handoff.truncation, handoff.jump);
        shared.current = Some(handoff);
        true
    }

    pub(super) fn share(&mut self, channel: &mut MigrationChannel, mut shared: SharedMove) -> Progress {
        let asking = shared.seqs[0];
        if shared.current.is_none() && !self.start_shared_channel(channel, &mut shared) {
            // No room for the rest: what has arrived stays.
            self.finish_sharing(channel, &shared);
            return Progress::Finished;
        }
        let Some(mut handoff) = shared.current.take() else { return Progress::Finished };
        let unit = shared.proposal.channels[shared.done].clone();
        let node = CircuitNode { module: unit.module, ..CircuitNode::default() };
        let emergency = channel.find(asking).is_some_and(|pending| pending.emergency);
        let furthest = (handoff.fraction + handoff.max_step).min(1.0);
        let fraction = match handoff.stepped_at {
            Some(tick) if tick == self.tick => None,
            _ => pay(channel, handoff.fraction, furthest, handoff.unit_cost, emergency),
        };
        let Some(fraction) = fraction else {
            shared.current = Some(handoff);
            channel.active = Some(Active::Shared(shared));
            return Progress::Stalled;
        };
        handoff.stepped_at = Some(self.tick);
        let before = handoff.fraction;
        if !handoff.advance(self.layers, &unit, fraction) {
            self.note(channel, asking, handoff.slow, Some(&node), MigrationAction::Ended, before, 0.0, handoff.jump);
            self.finish_sharing(channel, &shared);
            return Progress::Finished;
        }
        self.count(channel, asking, (fraction - before) * (unit.a.len() + unit.b.len()) as f64);
        if fraction < 1.0 {
            shared.current = Some(handoff);
            channel.active = Some(Active::Shared(shared));
            return Progress::Stalled;
        }
        let mut nodes = Vec::new();
        for seq in &shared.seqs {
            if let Some(pending) = channel.find(*seq) {
                let of_module = pending.nodes.iter().filter(|node| node.module == unit.module);
                nodes.extend(of_module.map(|node| (pending.fast(), node.channel)));
            }
        }
        let last = shared.proposal.channels[shared.done + 1..].iter().all(|next| next.module != unit.module);
        // Channels of one module are folded together with the last of its shared ones.
        let nodes = if last { nodes } else { Vec::new() };
        for (address, at) in handoff.finish(self.layers, &nodes, self.config.sharing.residual_tolerance) {
            self.freed.push((address, unit.module, at));
        }
        let action = MigrationAction::Shared { slow_channel: handoff.slow_channel };
        self.note(channel, asking, handoff.slow, Some(&node), action, 1.0, handoff.truncation, handoff.jump);
        if let Some(pending) = channel.find(asking) {
            pending.arrived.push(CircuitNode { channel: handoff.slow_channel, ..node });
        }
        shared.done += 1;
        if shared.done < shared.proposal.channels.len() {
            channel.active = Some(Active::Shared(shared));
        } else {
            self.finish_sharing(channel, &shared);
        }
        Progress::Finished
    }

    fn finish_sharing(&mut self, channel: &mut MigrationChannel, shared: &SharedMove) {
        for (i, seq) in shared.seqs.iter().enumerate() {
            if let Some(pending) = channel.find(*seq) {
                pending.nodes.clear();
                // Only one of them goes on: the mean is one circuit.
                if i > 0 {
                    pending.request.signal = MigrationSignal::Normal;
                }
            }
            self.complete(channel, *seq);
        }
    }
}
