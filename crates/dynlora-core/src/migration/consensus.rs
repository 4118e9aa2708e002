//! From private to shared: what several agents have in common (R46).

use std::collections::BTreeMap;

use krystal_math::low_rank::{dot_f32, inner_product, low_rank_svd};
use serde::{Deserialize, Serialize};

use super::channel::Pending;
use super::compression::{channel_norm, fold, make_room, module_norm};
use super::transfer::{arrival_credit, put_pinned, take_copy, unpin};
use super::{Alignment, LayerAccess, LayerAddress, MigrationConfig, RoomKind, SharingMode};
use crate::{AgentId, Channel, ChannelState, Level};

/// What the hierarchy knows and migration does not: whether agents agree, and whether sharing harms one.
pub trait ShareGate {
    /// Horizontal consensus of these agents on the shared layer, in `[0, 1]`; `None` where it is not measured, which does not
    /// stop them.
    fn consensus(&mut self, participants: &[AgentId]) -> Option<f64>;
    /// By how much the loss on an agent's recent buffer rises, relative, when the proposal is added to its stack: 0.01 for one
    /// percent. `None` where it is not measured, which does not stop it.
    fn probe(&mut self, agent: AgentId, proposal: &SharedProposal) -> Option<f64>;
}

/// Measures nothing and stops nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenGate;

impl ShareGate for OpenGate {
    fn consensus(&mut self, _: &[AgentId]) -> Option<f64> {
        None
    }
    fn probe(&mut self, _: AgentId, _: &SharedProposal) -> Option<f64> {
        None
    }
}

/// One channel to share: `dW += b a^T` in one module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedChannel {
    /// Module of the hierarchy.
    pub module: usize,
    /// `(d_in)`.
    pub a: Vec<f32>,
    /// `(d_out)`.
    pub b: Vec<f32>,
}

impl SharedChannel {
    fn norm(&self) -> f64 {
        (dot_f32(&self.a, &self.a) * dot_f32(&self.b, &self.b)).sqrt()
    }
}

/// The mean of several agents' circuits, as it would be added to the shared layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedProposal {
    /// Whose circuits, in order.
    pub participants: Vec<AgentId>,
    /// The mean, as channels.
    pub channels: Vec<SharedChannel>,
}

/// A proposal that is being carried out, one channel after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SharedMove {
    /// The participants' requests, the one that asked first.
    pub(super) seqs: Vec<u64>,
    pub(super) proposal: SharedProposal,
    /// Agents that did not take part and have it subtracted.
    pub(super) exempt: Vec<AgentId>,
    /// Channels of `proposal` that have arrived.
    pub(super) done: usize,
    pub(super) current: Option<SharedHandoff>,
}

/// One shared channel on its way: `b_slow` grows, and each mirror, with the same row of `A`, holds what it grew by, negative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SharedHandoff {
    pub(super) slow: LayerAddress,
    pub(super) module: usize,
    pub(super) slow_channel: usize,
    pub(super) mirrors: Vec<(LayerAddress, usize)>,
    pub(super) fraction: f64,
    /// Most of it that may move in a tick.
    pub(super) max_step: f64,
    pub(super) unit_cost: f64,
    pub(super) jump: f64,
    pub(super) truncation: f64,
    pub(super) stepped_at: Option<u64>,
}

/// `T` of a request: its channels that are left, by module.
pub(super) fn circuit_rows(layers: &mut dyn LayerAccess, pending: &Pending) -> BTreeMap<usize, Vec<Channel>> {
    let mut rows: BTreeMap<usize, Vec<Channel>> = BTreeMap::new();
    for node in &pending.nodes {
        if let Some(channel) = take_copy(layers, pending.fast(), node.module, node.channel)
            && channel.b.iter().any(|b| *b != 0.0)
        {
            rows.entry(node.module).or_default().push(channel);
        }
    }
    rows
}

/// Requests of other agents whose circuits are the same as `seed`'s, the best of each agent, `seed` first.
pub(super) fn cluster(
    layers: &mut dyn LayerAccess,
    pending: &[Pending],
    seed: u64,
    config: &MigrationConfig,
) -> Vec<u64> {
    let Some(asking) = pending.iter().find(|p| p.seq == seed) else { return Vec::new() };
    let own = circuit_rows(layers, asking);
    let mut best: BTreeMap<AgentId, (f64, u64)> = BTreeMap::new();
    for other in pending.iter().filter(|p| p.fast() != asking.fast()) {
        let cosine = match config.sharing.alignment {
            Alignment::Sketch => sketch_cosine(&asking.request.circuit.sketch, &other.request.circuit.sketch),
            Alignment::Weights => None,
        };
        let cosine = cosine.unwrap_or_else(|| weight_cosine(&own, &circuit_rows(layers, other)));
        if cosine >= config.sharing.min_cosine {
            let entry = best.entry(other.fast().agent).or_insert((cosine, other.seq));
            if cosine > entry.0 {
                *entry = (cosine, other.seq);
            }
        }
    }
    std::iter::once(seed).chain(best.into_values().map(|(_, seq)| seq)).collect()
}

/// The mean of the circuits in the modules that all have in common, each module's as few channels as the largest of them has.
pub(super) fn propose(layers: &mut dyn LayerAccess, circuits: &[&Pending]) -> SharedProposal {
    let mut participants: Vec<AgentId> = circuits.iter().map(|pending| pending.fast().agent).collect();
    participants.sort_unstable();
    let all: Vec<BTreeMap<usize, Vec<Channel>>> =
        circuits.iter().map(|pending| circuit_rows(layers, pending)).collect();
    let mut channels = Vec::new();
    for (module, own) in all.first().into_iter().flatten() {
        let parts: Vec<&Vec<Channel>> = all.iter().filter_map(|rows| rows.get(module)).collect();
        let widths = (own[0].a.len(), own[0].b.len());
        let fit = parts.iter().all(|part| part.iter().all(|c| (c.a.len(), c.b.len()) == widths));
        if parts.len() < all.len() || !fit {
            continue;
        }
        let b: Vec<&[f32]> = parts.iter().flat_map(|part| part.iter().map(|c| &c.b[..])).collect();
        let a: Vec<&[f32]> = parts.iter().flat_map(|part| part.iter().map(|c| &c.a[..])).collect();
        let svd = low_rank_svd(&b, &a);
        let most = parts.iter().map(|part| part.len()).max().unwrap_or(0);
        let gauge =
            parts.iter().flat_map(|part| part.iter()).map(|c| dot_f32(&c.a, &c.a).sqrt()).sum::<f64>() / b.len() as f64;
        if !(svd.frobenius_norm().is_finite() && gauge > 0.0) {
            continue;
        }
        for i in 0..most.min(svd.rank()) {
            let (mut b, a) = svd.term(i, gauge);
            b.iter_mut().for_each(|x| *x /= parts.len() as f32);
            channels.push(SharedChannel { module: *module, a, b });
        }
    }
    SharedProposal { participants, channels }
}

/// Agents that did not take part and are to be spared the proposal.
pub(super) fn exempt_agents(
    layers: &dyn LayerAccess,
    proposal: &SharedProposal,
    gate: &mut dyn ShareGate,
    config: &MigrationConfig,
) -> Vec<AgentId> {
    let mut agents = layers.agents();
    agents.retain(|agent| !proposal.participants.contains(agent));
    match config.sharing.mode {
        SharingMode::Exact => agents,
        SharingMode::Share => {
            // A loss that is no number is worse.
            let harmed = |rise: f64| rise.is_nan() || rise > config.sharing.max_probe_increase;
            agents.retain(|agent| gate.probe(*agent, proposal).is_some_and(harmed));
            agents
        }
    }
}

impl SharedHandoff {
    /// Finds room for a channel in the shared layer and for its mirrors in the private ones, and pins them all. `None` where
    /// one of them has none; the function is unchanged either way. Also says which modules of which layers were decomposed.
    pub(super) fn begin(
        layers: &mut dyn LayerAccess,
        shared: &SharedChannel,
        agents: &[AgentId],
        config: &MigrationConfig,
        mixed: &mut Vec<(LayerAddress, usize)>,
    ) -> Option<(Self, RoomKind)> {
        let slow = LayerAddress::new(Level::Swarm, None);
        let module = shared.module;
        let private: Vec<LayerAddress> =
            layers.agents().iter().map(|agent| LayerAddress::new(Level::Agent, Some(*agent))).collect();
        let room = make_room(layers, slow, &private, module, config.truncation_tolerance)?;
        if room.kind != RoomKind::Free {
            mixed.push((slow, module));
        }
        let (mut jump, mut truncation) = (room.jump, room.truncation);
        let mut mirrors = Vec::new();
        for agent in agents {
            let address = LayerAddress::new(Level::Agent, Some(*agent));
            let context = LayerAddress::new(Level::Context, Some(*agent));
            let room = make_room(layers, address, &[context], module, config.sharing.residual_tolerance)?;
            if room.kind != RoomKind::Free {
                mixed.push((address, module));
            }
            jump += room.jump;
            truncation = truncation.max(room.truncation);
            mirrors.push((address, room.channel));
        }
        let mut total = f64::INFINITY;
        for agent in agents {
            total = total.min(stack_norm(layers, *agent));
        }
        let layer = slow.of(layers)?;
        let mut activity = 0.0_f32;
        place(layer, module, room.channel, shared, activity);
        let source = LayerAddress::new(Level::Agent, agents.first().copied());
        for (address, channel) in &mirrors {
            let layer = address.of(layers)?;
            let busiest = (0..layer.factors()[module].rank).map(|c| layer.channel(module, c).activity);
            activity = busiest.fold(activity, f32::max);
            place(layer, module, *channel, shared, activity);
        }
        let slow_layer = slow.of(layers)?;
        place(slow_layer, module, room.channel, shared, activity);
        let slow_norm = channel_norm(slow_layer);
        let source = source.of(layers)?;
        let by_parameters = (shared.a.len() + shared.b.len()) as f64 / source.num_parameters().max(1) as f64;
        let reference = slow_norm.hypot(channel_norm(source));
        let by_change = if reference > 0.0 { config.change_weight * shared.norm() / reference } else { 0.0 };
        let step = config.sharing.max_step * total / shared.norm();
        let handoff = Self {
            slow,
            module,
            slow_channel: room.channel,
            mirrors,
            fraction: 0.0,
            // Never so little that it would not end.
            max_step: if step.is_finite() { step.clamp(1e-3, 1.0) } else { 1.0 },
            unit_cost: by_parameters.max(by_change),
            jump,
            truncation,
            stepped_at: None,
        };
        Some((handoff, room.kind))
    }

    /// Moves on to `fraction`; false where the shared layer has gone or a row of `A` moved, and the handoff is over.
    pub(super) fn advance(&mut self, layers: &mut dyn LayerAccess, shared: &SharedChannel, fraction: f64) -> bool {
        let Some(mut target) = take_copy(layers, self.slow, self.module, self.slow_channel) else {
            self.end(layers);
            return false;
        };
        if target.a != shared.a {
            self.end(layers);
            return false;
        }
        let share = (fraction - self.fraction).clamp(0.0, 1.0);
        let grown: Vec<f64> = target
            .b
            .iter_mut()
            .zip(&shared.b)
            .map(|(b, whole)| {
                let old = f64::from(*b);
                *b = (old + share * f64::from(*whole)) as f32;
                // What it really grew by, so that the mirrors give up that and no more.
                f64::from(*b) - old
            })
            .collect();
        let size = dot_f32(&shared.a, &shared.a).sqrt();
        let mut worst = 0.0_f64;
        // The mirror of an agent that has gone, or whose row moved, is no longer one.
        self.mirrors.retain(|&(address, channel)| {
            let Some(mut mirror) = take_copy(layers, address, self.module, channel) else { return false };
            let mut error = 0.0;
            for (b, grown) in mirror.b.iter_mut().zip(&grown) {
                let exact = f64::from(*b) - grown;
                *b = exact as f32;
                error += (f64::from(*b) - exact).powi(2);
            }
            worst = worst.max(error.sqrt() * size);
            if let Some(layer) = address.of(layers) {
                put_pinned(layer, self.module, channel, mirror);
            }
            true
        });
        if let Some(layer) = self.slow.of(layers) {
            put_pinned(layer, self.module, self.slow_channel, target);
        }
        self.fraction = fraction;
        self.jump += worst;
        true
    }

    /// Unpins everything; each layer keeps what it holds.
    pub(super) fn end(&self, layers: &mut dyn LayerAccess) {
        unpin(layers, self.slow, self.module, self.slow_channel);
        for (address, channel) in &self.mirrors {
            unpin(layers, *address, self.module, *channel);
        }
    }

    /// Unpins everything, gives the shared channel its credit and writes each participant's rest with as few channels as it
    /// takes. `nodes` are the participants' channels of this module. Returns the channels written anew.
    pub(super) fn finish(
        &mut self,
        layers: &mut dyn LayerAccess,
        nodes: &[(LayerAddress, usize)],
        tolerance: f64,
    ) -> Vec<(LayerAddress, usize)> {
        self.end(layers);
        if let Some(mut channel) = take_copy(layers, self.slow, self.module, self.slow_channel)
            && let Some(layer) = self.slow.of(layers)
        {
            channel.state.is_screened = true;
            channel.state.credit_ticks = arrival_credit(layer);
            layer.put_channel(self.module, self.slow_channel, channel);
        }
        let mut written = Vec::new();
        for (address, mirror) in self.mirrors.clone() {
            let mut channels: Vec<usize> =
                nodes.iter().filter(|(of, _)| *of == address).map(|(_, channel)| *channel).collect();
            let Some(layer) = address.of(layers) else { continue };
            let factors = layer.factors()[self.module].clone();
            channels.retain(|c| *c != mirror && *c < factors.rank && !factors.is_free(*c));
            channels.retain(|c| !layer.channel(self.module, *c).is_pinned);
            channels.push(mirror);
            channels.sort_unstable();
            channels.dedup();
            // Of both layers: what is left of a circuit that was the mean is only rounding.
            let norm = module_norm(layers, self.slow, self.module).hypot(module_norm(layers, address, self.module));
            if let Some((truncation, jump)) = fold(layers, address, self.module, &channels, tolerance, norm) {
                self.jump += jump;
                self.truncation = self.truncation.max(truncation);
                written.extend(channels.into_iter().map(|channel| (address, channel)));
            }
        }
        written
    }
}

/// An empty channel with the shared row of `A`, pinned.
fn place(layer: &mut dyn crate::LoraLayer, module: usize, channel: usize, shared: &SharedChannel, activity: f32) {
    let old = layer.copy_channel(module, channel);
    let state = ChannelState { activity, is_screened: true, is_pinned: true, ..old.state };
    let value =
        Channel { a: shared.a.clone(), b: vec![0.0; shared.b.len()], moments: vec![0.0; old.moments.len()], state };
    put_pinned(layer, module, channel, value);
}

/// `|dW|_F` of an agent's stack, as if channels were orthogonal.
fn stack_norm(layers: &mut dyn LayerAccess, agent: AgentId) -> f64 {
    let norm = |level| LayerAddress::new(level, Some(agent)).of(layers).map_or(0.0, |layer| channel_norm(layer));
    Level::ALL.map(norm).iter().map(|norm| norm * norm).sum::<f64>().sqrt()
}

fn weight_cosine(x: &BTreeMap<usize, Vec<Channel>>, y: &BTreeMap<usize, Vec<Channel>>) -> f64 {
    let product = |x: &BTreeMap<usize, Vec<Channel>>, y: &BTreeMap<usize, Vec<Channel>>| -> f64 {
        let mut total = 0.0;
        for (module, x) in x {
            let Some(y) = y.get(module) else { continue };
            if (x[0].b.len(), x[0].a.len()) != (y[0].b.len(), y[0].a.len()) {
                continue;
            }
            let ((b, a), (d, c)) = (factor_rows(x), factor_rows(y));
            total += inner_product(&b, &a, &d, &c);
        }
        total
    };
    let cosine = product(x, y) / (product(x, x) * product(y, y)).sqrt();
    if cosine.is_finite() { cosine } else { 0.0 }
}

/// Rows of `B^T` and of `A`.
fn factor_rows(channels: &[Channel]) -> (Vec<&[f32]>, Vec<&[f32]>) {
    channels.iter().map(|channel| (&channel.b[..], &channel.a[..])).unzip()
}

fn sketch_cosine(x: &[f32], y: &[f32]) -> Option<f64> {
    if x.is_empty() || x.len() != y.len() {
        return None;
    }
    let cosine = dot_f32(x, y) / (dot_f32(x, x) * dot_f32(y, y)).sqrt();
    Some(if cosine.is_finite() { cosine } else { 0.0 })
}
