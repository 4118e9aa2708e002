//! The seed's queue, for ablation.

use super::channel::MigrationChannel;
use super::compression::{exchange, make_room};
use super::scheduler::Scheduler;
use super::transfer::take_copy;
use super::{Handoff, LayerAddress, MigrationAction, RoomKind, WhenFull};
use crate::CircuitNode;

impl Scheduler<'_> {
    /// The seed's queue (S2, section 4), one pass a tick.
    pub(super) fn run_seed(&mut self, channel: &mut MigrationChannel) {
        channel.current_transfer *= 0.9;
        let bandwidth = channel.bucket.rate();
        let mut order: Vec<(f64, u64, bool)> = channel
            .pending
            .iter()
            .map(|pending| (pending.request.pressure().autocorrelation, pending.seq, pending.emergency))
            .collect();
        order.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
        for (_, seq, emergency) in order {
            let Some(pending) = channel.find(seq) else { continue };
            let fast = pending.fast();
            let nodes = pending.nodes.clone();
            let slow = LayerAddress::new(channel.to, Some(fast.agent));
            let total = fast.of(self.layers).map_or(1, |layer| layer.num_parameters().max(1)) as f64;
            let mut size = 0.0;
            for node in &nodes {
                let source = take_copy(self.layers, fast, node.module, node.channel);
                size += source.map_or(0.0, |source| (source.a.len() + source.b.len()) as f64 / total);
            }
            if !emergency && channel.current_transfer + size > bandwidth {
                continue;
            }
            if !emergency {
                channel.current_transfer += size;
            }
            self.begin(channel, seq);
            self.move_at_once(channel, seq, fast, slow, &nodes);
            self.complete(channel, seq);
        }
    }

    fn move_at_once(
        &mut self,
        channel: &mut MigrationChannel,
        seq: u64,
        fast: LayerAddress,
        slow: LayerAddress,
        nodes: &[CircuitNode],
    ) {
        let several = !fast.level.is_shared() && slow.level.is_shared();
        let faster: Vec<LayerAddress> = if several {
            self.layers.agents().iter().map(|agent| LayerAddress::new(fast.level, Some(*agent))).collect()
        } else {
            vec![fast]
        };
        for node in nodes {
            let Some(source) = take_copy(self.layers, fast, node.module, node.channel) else { continue };
            let width = (source.a.len() + source.b.len()) as f64;
            let room = make_room(self.layers, slow, &faster, node.module, self.config.truncation_tolerance);
            let moved = match room {
                Some(room) => {
                    if room.kind != RoomKind::Free {
                        self.mix(channel, slow, node.module);
                    }
                    Handoff::begin(self.layers, fast, slow, node.module, node.channel, room.channel)
                        .and_then(|mut handoff| handoff.advance(self.layers, 1.0))
                        .map(|jump| {
                            let slow_channel = room.channel;
                            (MigrationAction::Arrived { slow_channel }, slow_channel, room.truncation, room.jump + jump)
                        })
                }
                None if faster.len() == 1 && self.config.when_full == WhenFull::Exchange => {
                    exchange(self.layers, fast, slow, node.module, node.channel).map(|(slow_channel, jump)| {
                        self.mix(channel, slow, node.module);
                        (MigrationAction::Exchanged { slow_channel }, slow_channel, 0.0, jump)
                    })
                }
                None => None,
            };
            if let Some((action, slow_channel, truncation, jump)) = moved {
                self.count(channel, seq, width);
                self.note(channel, seq, slow, Some(node), action, 1.0, truncation, jump);
                self.free(channel, fast, node.module, node.channel);
                if let Some(pending) = channel.find(seq) {
                    pending.arrived.push(CircuitNode { channel: slow_channel, ..node.clone() });
                }
            }
        }
    }
}
